//! What is asked of the server.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::spawn_local;
use tokio::time::{sleep, sleep_until, timeout};

use crate::meter::{Content, Counters, Meter, Reader};
use crate::options::{Job, Options};
use crate::procfs;
use crate::report::{Moments, Report, Snapshot};
use crate::transport::{Exchange, Transport};

/// How long a server has, after churn, to notice who left.
const AFTER_CHURN: Duration = Duration::from_secs(2);
/// How long streams that were opened for the idle job have to begin.
const UNTIL_IDLE: Duration = Duration::from_secs(20);

/// Runs a job to its end, which is bounded by the options.
pub(crate) async fn run(options: Options) -> io::Result<Report> {
    let before = options.pid.map(procfs::cost);
    let transport = Transport::new(&options).await?;
    let bench = Rc::new(Bench { options, transport, meter: Meter::new() });
    let (start, end, after) = match bench.options.job {
        Job::Burst => bench.window(Content::Counter, true).await,
        Job::Paced => bench.window(Content::Stamp, false).await,
        Job::Idle => bench.idle().await,
        Job::FirstByte => return bench.first_byte(before).await,
        Job::Requests => bench.requests().await,
        Job::Download => bench.download().await,
        Job::Churn => bench.churn().await,
    };
    let meter = bench.meter.borrow();
    Ok(Report::new(&bench.options, &meter, &Moments { before, start, end, after }))
}

type Measured = (Snapshot, Snapshot, Option<procfs::Cost>);

/// A server, what is asked of it, and what was seen.
struct Bench {
    options: Options,
    transport: Transport,
    meter: Rc<RefCell<Meter>>,
}

impl Bench {
    fn snapshot(&self) -> Snapshot {
        let cost = self.options.pid.map(procfs::cost);
        let counters = self.meter.borrow().counters;
        Snapshot { at: Instant::now(), counters, cost, own_cpu: procfs::own_cpu() }
    }

    /// Opens all connections at the rate asked for.
    async fn open(self: &Rc<Self>, path: &str, content: Content, repeat: bool) {
        let path: Rc<str> = path.into();
        let start = tokio::time::Instant::now();
        for index in 0..self.options.connections {
            if self.options.open_rate > 0.0 {
                sleep_until(start + Duration::from_secs_f64(index as f64 / self.options.open_rate)).await;
            }
            spawn_local(Rc::clone(self).client(index, Rc::clone(&path), content, repeat));
        }
    }

    async fn client(self: Rc<Self>, index: usize, path: Rc<str>, content: Content, repeat: bool) {
        let mut first = true;
        loop {
            let result = self.stream(index, &path, content, first).await;
            first = false;
            if !repeat {
                return;
            }
            if result.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Reads one response to its end.
    async fn stream(&self, index: usize, path: &str, content: Content, first: bool) -> io::Result<()> {
        let mut reader = Reader::new(&self.meter, content, Instant::now(), first);
        let result = self.read_all(index, path, &mut reader).await;
        self.meter.borrow_mut().count_end(&result, reader.answered);
        result
    }

    async fn read_all(&self, index: usize, path: &str, reader: &mut Reader) -> io::Result<()> {
        let mut exchange = self.transport.request(index, path).await?;
        while !exchange.read(reader).await? {}
        Ok(())
    }

    /// Reads one response until its first event, and leaves.
    async fn first_event(&self, meter: &Rc<RefCell<Meter>>, index: usize, path: &str, content: Content) {
        let mut reader = Reader::new(meter, content, Instant::now(), true);
        let reading = async {
            let mut exchange = self.transport.request(index, path).await?;
            while !reader.answered {
                if exchange.read(&mut reader).await? && !reader.answered {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Ok(())
        };
        let result =
            timeout(self.options.timeout, reading).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
        meter.borrow_mut().count_end(&result, reader.answered);
    }

    /// Bursts and paced streams: all open, then warm, then measured for a while.
    async fn window(self: &Rc<Self>, content: Content, repeat: bool) -> Measured {
        self.open(&self.options.path, content, repeat).await;
        sleep(self.options.warmup).await;
        self.meter.borrow_mut().lateness.clear();
        let start = self.snapshot();
        sleep(self.options.duration).await;
        (start, self.snapshot(), None)
    }

    /// All open and answered, then left alone for a while.
    async fn idle(self: &Rc<Self>) -> Measured {
        self.open(&self.options.path, Content::Any, false).await;
        let opened = Instant::now();
        let all = self.options.connections as u64;
        while self.meter.borrow().counters.answered < all && opened.elapsed() < UNTIL_IDLE {
            sleep(Duration::from_millis(50)).await;
            if opened.elapsed() > self.options.timeout && self.stalled().await {
                break;
            }
        }
        sleep(self.options.warmup).await;
        let start = self.snapshot();
        sleep(self.options.duration).await;
        (start, self.snapshot(), None)
    }

    /// Whether no stream begins any more.
    async fn stalled(&self) -> bool {
        let Counters { answered, .. } = self.meter.borrow().counters;
        sleep(Duration::from_secs(1)).await;
        self.meter.borrow().counters.answered == answered
    }

    /// One client after the other, while the others' streams are open.
    async fn first_byte(self: &Rc<Self>, before: Option<procfs::Cost>) -> io::Result<Report> {
        let background = self.options.background.as_ref().unwrap_or(&self.options.path);
        self.open(background, Content::Stamp, false).await;
        sleep(self.options.warmup).await;
        let probes = Meter::new();
        let start = self.snapshot();
        let deadline = start.at + self.options.duration;
        for index in 0..self.options.count {
            self.first_event(&probes, self.options.connections + index, &self.options.path, Content::Any)
                .await;
            if Instant::now() > deadline {
                break;
            }
            sleep(Duration::from_millis(7)).await;
        }
        let mut end = self.snapshot();
        let moments = {
            let mut start = start;
            (start.counters, end.counters) = (Counters::default(), probes.borrow().counters);
            Moments { before, start, end, after: None }
        };
        let report = Report::new(&self.options, &probes.borrow(), &moments);
        Ok(report)
    }

    /// Keep-alive requests, each after the answer to the one before.
    async fn requests(self: &Rc<Self>) -> Measured {
        for index in 0..self.options.connections {
            spawn_local(Rc::clone(self).requester(index));
        }
        sleep(self.options.warmup).await;
        self.meter.borrow_mut().latency.clear();
        let start = self.snapshot();
        sleep(self.options.duration).await;
        (start, self.snapshot(), None)
    }

    async fn requester(self: Rc<Self>, index: usize) {
        loop {
            let result = self.requests_on_one_connection(index).await;
            self.meter.borrow_mut().count_end(&result, true);
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn requests_on_one_connection(&self, index: usize) -> io::Result<()> {
        let mut started = Instant::now();
        let mut exchange = self.transport.request(index, &self.options.path).await?;
        loop {
            self.answer(&mut exchange, started).await?;
            started = Instant::now();
            self.transport.again(&mut exchange, index, &self.options.path).await?;
        }
    }

    async fn answer(&self, exchange: &mut Exchange, started: Instant) -> io::Result<()> {
        let mut reader = Reader::new(&self.meter, Content::Bytes, started, false);
        while !exchange.read(&mut reader).await? {}
        self.meter.borrow_mut().latency.record(started.elapsed());
        Ok(())
    }

    /// One body to its end, or as much of it as there is time for.
    async fn download(self: &Rc<Self>) -> Measured {
        let start = self.snapshot();
        let reading = self.stream(0, &self.options.path, Content::Bytes, true);
        if timeout(self.options.duration, reading).await.is_err() {
            self.meter.borrow_mut().counters.timed_out += 1;
        }
        (start, self.snapshot(), None)
    }

    /// Clients that come, take one event and go.
    async fn churn(self: &Rc<Self>) -> Measured {
        let left = Rc::new(Cell::new(self.options.count));
        let start = self.snapshot();
        let deadline = start.at + self.options.duration;
        let clients: Vec<_> = (0..self.options.connections)
            .map(|index| spawn_local(Rc::clone(self).comer(index, Rc::clone(&left), deadline)))
            .collect();
        for client in clients {
            // A client's task returns nothing and does not panic.
            drop(client.await);
        }
        let end = self.snapshot();
        sleep(AFTER_CHURN).await;
        (start, end, self.options.pid.map(procfs::cost))
    }

    async fn comer(self: Rc<Self>, mut index: usize, left: Rc<Cell<usize>>, deadline: Instant) {
        while left.get() > 0 && Instant::now() < deadline {
            left.set(left.get() - 1);
            self.first_event(&self.meter, index, &self.options.path, Content::Any).await;
            if self.options.h2c {
                continue;
            }
            index += self.options.connections;
        }
    }
}
