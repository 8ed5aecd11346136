//! A load generator for Server-Sent Events.
//!
//! It opens up to 19,000 connections from one thread, reads what the server streams, and prints one JSON object:
//! events a second, time to the first event, how late each event is against the time stamped in it, and what the
//! server spent for it.
//!
//! # Layout
//!
//! - `options`: the command line.
//! - `transport`: opens connections, HTTP/1.1 or h2c, from many source addresses.
//! - `http1`: requests and responses as bytes on a socket.
//! - `h2c`: the same over the `h2` crate.
//! - `decode`: undoes a content encoding, chunk by chunk.
//! - `sse`: the event stream parser.
//! - `meter`: what is counted while a job runs.
//! - `histogram`: latencies.
//! - `procfs`: what the server's processes cost.
//! - `jobs`: what is asked of the server.
//! - `report`: the JSON.

mod decode;
mod h2c;
mod histogram;
mod http1;
mod jobs;
mod meter;
mod options;
mod procfs;
mod report;
mod sse;
mod transport;

use std::process::ExitCode;

use options::Options;

fn main() -> ExitCode {
    let options = match Options::from_arguments(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("hypern-load: {message}\n\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    match run(options) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("hypern-load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One thread does everything: it shares the machine's cores with the server it measures.
fn run(options: Options) -> std::io::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let report = local.block_on(&runtime, jobs::run(options))?;
    serde_json::to_string(&report).map_err(std::io::Error::other)
}
