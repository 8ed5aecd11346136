//! The command line.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

/// What `hypern-load` prints with a wrong command line.
pub(crate) const USAGE: &str = "\
usage: hypern-load JOB --address IP:PORT --path PATH [options]

jobs
  burst        clients that read whole streams, again and again, for --duration
  paced        clients of streams that never end and stamp each event with the time
  idle         streams that are opened and left alone
  first-byte   the time to the first event, one client at a time, while --connections streams are open
  requests     keep-alive requests, one after the other on each connection
  download     one body, read to its end
  churn        connect, read one event, leave; --count times

options
  --connections N    clients at once (1)
  --open-rate N      connections opened a second, 0 for all at once (1000)
  --warmup SECONDS   time between the last connection and the measurement (0.5)
  --duration SECONDS how long to measure, and the limit of a download (5)
  --rate N           events a second of each stream, for the share that is on schedule
  --count N          probes of first-byte, clients of churn (100)
  --background PATH  the path that first-byte holds open (the same as --path)
  --timeout SECONDS  how long to wait for one first event (5)
  --encoding NAME    sent as accept-encoding: gzip or zstd
  --h2c              HTTP/2 with prior knowledge
  --streams N        HTTP/2 streams on one connection (100)
  --pid N            the server's first process, whose cost is read from /proc";

/// What is asked of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    Burst,
    Paced,
    Idle,
    FirstByte,
    Requests,
    Download,
    Churn,
}

impl Job {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Burst => "burst",
            Self::Paced => "paced",
            Self::Idle => "idle",
            Self::FirstByte => "first-byte",
            Self::Requests => "requests",
            Self::Download => "download",
            Self::Churn => "churn",
        }
    }
}

impl FromStr for Job {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Burst, Self::Paced, Self::Idle, Self::FirstByte, Self::Requests, Self::Download, Self::Churn]
            .into_iter()
            .find(|job| job.name() == text)
            .ok_or_else(|| format!("there is no job named {text:?}"))
    }
}

/// One run of the generator.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) job: Job,
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    pub(crate) background: Option<String>,
    pub(crate) connections: usize,
    pub(crate) open_rate: f64,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    pub(crate) rate: Option<f64>,
    pub(crate) count: usize,
    pub(crate) timeout: Duration,
    pub(crate) encoding: Option<String>,
    pub(crate) h2c: bool,
    pub(crate) streams: usize,
    pub(crate) pid: Option<u32>,
}

impl Options {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    ///
    /// A sentence that names the argument which is missing, unknown or malformed.
    pub(crate) fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let job = arguments.next().ok_or("the job is missing")?.parse()?;
        let mut address = None;
        let mut options = Self {
            job,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            path: String::new(),
            background: None,
            connections: 1,
            open_rate: 1000.0,
            warmup: Duration::from_millis(500),
            duration: Duration::from_secs(5),
            rate: None,
            count: 100,
            timeout: Duration::from_secs(5),
            encoding: None,
            h2c: false,
            streams: 100,
            pid: None,
        };
        while let Some(name) = arguments.next() {
            if name == "--h2c" {
                options.h2c = true;
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--address" => address = Some(parse(&name, &value)?),
                "--path" => options.path = value,
                "--background" => options.background = Some(value),
                "--connections" => options.connections = parse(&name, &value)?,
                "--open-rate" => options.open_rate = parse(&name, &value)?,
                "--warmup" => options.warmup = seconds(&name, &value)?,
                "--duration" => options.duration = seconds(&name, &value)?,
                "--rate" => options.rate = Some(parse(&name, &value)?),
                "--count" => options.count = parse(&name, &value)?,
                "--timeout" => options.timeout = seconds(&name, &value)?,
                "--encoding" => options.encoding = Some(value),
                "--streams" => options.streams = parse::<usize>(&name, &value)?.max(1),
                "--pid" => options.pid = Some(parse(&name, &value)?),
                _ => return Err(format!("there is no option {name}")),
            }
        }
        options.address = address.ok_or("--address is missing")?;
        if !options.path.starts_with('/') {
            return Err("--path is missing, or does not start with /".into());
        }
        Ok(options)
    }
}

fn parse<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name} cannot be {value:?}"))
}

fn seconds(name: &str, value: &str) -> Result<Duration, String> {
    Duration::try_from_secs_f64(parse(name, value)?).map_err(|_| format!("{name} cannot be {value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Options, String> {
        Options::from_arguments(line.split_whitespace().map(String::from))
    }

    #[test]
    fn a_full_line_is_read() {
        let read = options("paced --address 127.0.0.1:80 --path /x --connections 7 --rate 2.5 --h2c")
            .expect("valid");
        assert_eq!((read.job, read.connections, read.rate, read.h2c), (Job::Paced, 7, Some(2.5), true));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(options("swim").expect_err("unknown"), "there is no job named \"swim\"");
        assert_eq!(options("idle --path /x").expect_err("incomplete"), "--address is missing");
        assert!(
            options("idle --address 127.0.0.1:80 --path /x --rate ten")
                .expect_err("malformed")
                .contains("--rate")
        );
    }
}
