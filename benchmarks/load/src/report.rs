//! The JSON that a run prints. Absent figures are `null`; times are in milliseconds unless the name says otherwise.

use serde::Serialize;

use crate::histogram::Histogram;
use crate::meter::{Counters, Meter};
use crate::options::Options;
use crate::procfs::Cost;

/// One run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    job: &'static str,
    path: String,
    protocol: &'static str,
    /// The content encoding that the server chose.
    encoding: Option<String>,
    connections: usize,
    /// The length of the measurement.
    seconds: f64,
    asked: u64,
    answered: u64,
    refused: u64,
    rejected: u64,
    cut: u64,
    timed_out: u64,
    ended: u64,
    malformed: u64,
    events: u64,
    events_per_second: f64,
    bytes: u64,
    bytes_per_second: f64,
    wire_bytes: u64,
    expected_events: Option<f64>,
    /// Events received for each event expected.
    on_schedule: Option<f64>,
    requests_per_second: f64,
    first_event: Percentiles,
    lateness: Percentiles,
    latency: Percentiles,
    server: Option<ServerCost>,
    generator_cpu_seconds: f64,
}

#[derive(Debug, Serialize)]
struct Percentiles {
    p50: Option<f64>,
    p99: Option<f64>,
    p999: Option<f64>,
    max: Option<f64>,
    count: u64,
    /// Counted as later than all others.
    never: u64,
}

impl Percentiles {
    fn new(histogram: &Histogram, never: u64) -> Self {
        let percentile =
            |share| if histogram.total() == 0 { None } else { histogram.percentile(share, never) };
        Self {
            p50: percentile(0.5),
            p99: percentile(0.99),
            p999: percentile(0.999),
            max: if never > 0 { None } else { histogram.maximum() },
            count: histogram.total(),
            never,
        }
    }
}

#[derive(Debug, Serialize)]
struct ServerCost {
    cpu_seconds: f64,
    cpu_us_per_event: Option<f64>,
    cpu_us_per_request: Option<f64>,
    cpu_us_per_mib: Option<f64>,
    /// Before the first connection, and at the end of the measurement.
    rss_before: u64,
    rss_after: u64,
    /// The difference for each stream that had its first event.
    rss_per_stream: Option<f64>,
    threads_before: u64,
    threads_after: u64,
    processes: u64,
}

/// The state of everything at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot {
    pub(crate) at: std::time::Instant,
    pub(crate) counters: Counters,
    pub(crate) cost: Option<Cost>,
    pub(crate) own_cpu: f64,
}

/// The moments between which a job measures.
pub(crate) struct Moments {
    /// Before the first connection.
    pub(crate) before: Option<Cost>,
    pub(crate) start: Snapshot,
    pub(crate) end: Snapshot,
    /// The server's memory and threads at the end, where that is later than `end`.
    pub(crate) after: Option<Cost>,
}

impl Report {
    pub(crate) fn new(options: &Options, meter: &Meter, moments: &Moments) -> Self {
        let (start, end) = (&moments.start.counters, &moments.end.counters);
        let seconds = (moments.end.at - moments.start.at).as_secs_f64();
        let (events, bytes) = (end.events - start.events, end.bytes - start.bytes);
        let requests = meter.latency.total();
        let expected = options.rate.map(|rate| rate * seconds * options.connections as f64);
        Self {
            job: options.job.name(),
            path: options.path.clone(),
            protocol: if options.h2c { "h2c" } else { "http/1.1" },
            encoding: meter.encoding.clone(),
            connections: options.connections,
            seconds,
            asked: end.asked,
            answered: end.answered,
            refused: end.refused,
            rejected: end.rejected,
            cut: end.cut,
            timed_out: end.timed_out,
            ended: end.ended,
            malformed: end.malformed,
            events,
            events_per_second: events as f64 / seconds,
            bytes,
            bytes_per_second: bytes as f64 / seconds,
            wire_bytes: end.wire_bytes - start.wire_bytes,
            expected_events: expected,
            on_schedule: expected.map(|expected| events as f64 / expected),
            requests_per_second: requests as f64 / seconds,
            first_event: Percentiles::new(&meter.first_event, end.waiting - end.answered),
            lateness: Percentiles::new(&meter.lateness, 0),
            latency: Percentiles::new(&meter.latency, 0),
            server: ServerCost::new(moments, events, requests, bytes),
            generator_cpu_seconds: moments.end.own_cpu - moments.start.own_cpu,
        }
    }
}

impl ServerCost {
    fn new(moments: &Moments, events: u64, requests: u64, bytes: u64) -> Option<Self> {
        let (before, start, end) = (moments.before?, moments.start.cost?, moments.end.cost?);
        let after = moments.after.unwrap_or(end);
        let cpu_seconds = end.cpu_seconds - start.cpu_seconds;
        let each = |count: f64| (count > 0.0).then_some(cpu_seconds * 1e6 / count);
        let streams = moments.end.counters.answered;
        let grown = after.rss_bytes.saturating_sub(before.rss_bytes) as f64;
        Some(Self {
            cpu_seconds,
            cpu_us_per_event: each(events as f64),
            cpu_us_per_request: each(requests as f64),
            cpu_us_per_mib: each(bytes as f64 / 1_048_576.0),
            rss_before: before.rss_bytes,
            rss_after: after.rss_bytes,
            rss_per_stream: (streams > 0).then_some(grown / streams as f64),
            threads_before: before.threads,
            threads_after: after.threads,
            processes: after.processes,
        })
    }
}
