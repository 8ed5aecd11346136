//! A pipe between its producer and a response body, on a paused clock where time matters.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Buf;
use http_body_util::BodyExt;
use hypern_core::body::{Chunk, ResponseBody, StreamBody};
use hypern_core::compress::Encoding;
use hypern_core::pipe::{CAPACITY, CAPACITY_FOR_READERS, Closed, Gathered, Kind, LOT, Offer, Opening, Pipe};
use hypern_core::presence::Presence;
use hypern_core::sse::{KEEP_ALIVE, OPENING};
use hypern_core::watch::Watch;
use tokio::time::{Instant, timeout};

const PATIENCE: Duration = Duration::from_millis(50);
const SECOND: Duration = Duration::from_secs(1);
const PING: Duration = Duration::from_secs(15);
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
const EVENTS: Kind = Kind::Events { ping: None };
const PINGED: Kind = Kind::Events { ping: Some(PING) };

fn pipe(kind: Kind, send_timeout: Option<Duration>) -> Arc<Pipe> {
    Pipe::new(kind, send_timeout, Vec::new(), Presence::new())
}

/// A pipe whose response has begun, read by hand instead of by hyper.
struct Stream {
    pipe: Arc<Pipe>,
    body: ResponseBody,
    watch: Arc<Watch>,
}

impl Stream {
    fn new(kind: Kind, send_timeout: Option<Duration>) -> Self {
        Self::encoded(kind, send_timeout, None)
    }

    fn encoded(kind: Kind, send_timeout: Option<Duration>, encoding: Option<Encoding>) -> Self {
        let pipe = pipe(kind, send_timeout);
        let watch = Watch::new();
        let body = ResponseBody::Stream(StreamBody::new(pipe.clone(), encoding, &watch));
        Self { pipe, body, watch }
    }

    fn watched(self) -> Self {
        let watch = self.watch.clone();
        tokio::spawn(async move { watch.run().await });
        self
    }

    /// The next frame as hyper holds it: unsent until it is dropped.
    async fn take(&mut self) -> Chunk {
        let frame = self.body.frame().await.expect("a frame").expect("no cut");
        frame.into_data().expect("data")
    }

    async fn text(&mut self) -> String {
        let chunk = self.take().await;
        String::from_utf8(chunk.chunk().to_vec()).expect("text")
    }

    async fn end(&mut self) -> End {
        match self.body.frame().await {
            None => End::Clean,
            Some(Err(_cut)) => End::Cut,
            Some(Ok(frame)) => panic!("more data: {frame:?}"),
        }
    }

    /// True if there is no frame, nor an end, for this long.
    async fn is_silent_for(&mut self, duration: Duration) -> bool {
        timeout(duration, self.body.frame()).await.is_err()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Clean,
    Cut,
}

fn write(pipe: &Pipe, item: &str) {
    assert_eq!(pipe.write(item.as_bytes()), Ok(item.len()));
}

fn flag() -> (Arc<AtomicBool>, Box<dyn FnOnce() + Send>) {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = flag.clone();
    (flag, Box::new(move || raised.store(true, Ordering::Release)))
}

fn incompressible(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

// Gathering.

fn gather(pipe: &Pipe, item: &str) {
    assert_eq!(pipe.gather(item.as_bytes()), Ok(Gathered { accepted: item.len(), is_full: false }));
}

#[tokio::test(start_paused = true)]
async fn what_is_gathered_leaves_together_once_the_producer_waits() {
    let mut stream = Stream::new(EVENTS, None);
    gather(&stream.pipe, "a");
    gather(&stream.pipe, "b");
    assert!(stream.is_silent_for(SECOND).await, "the producer is still at it");
    stream.pipe.take_reader().expect("the body waits").wake();
    assert_eq!(stream.text().await, "ab");
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_the_rest_is_written_gathers_too() {
    let mut stream = Stream::new(EVENTS, None);
    gather(&stream.pipe, "a");
    assert!(stream.pipe.take_reader().is_none(), "nobody waits yet");
    let in_flight = stream.take().await;
    gather(&stream.pipe, "b");
    drop(in_flight);
    assert!(stream.is_silent_for(SECOND).await, "it would be a write for each item");
    gather(&stream.pipe, "c");
    stream.pipe.take_reader().expect("the body waits").wake();
    assert_eq!(stream.text().await, "bc");
}

#[tokio::test(start_paused = true)]
async fn a_good_deal_leaves_although_the_producer_goes_on() {
    let mut stream = Stream::new(EVENTS, None);
    gather(&stream.pipe, "a");
    assert!(stream.is_silent_for(SECOND).await);
    gather(&stream.pipe, &"x".repeat(CAPACITY / 2));
    assert_eq!(stream.take().await.remaining(), CAPACITY / 2 + 1);
}

#[test]
fn a_lot_is_taken_whole_and_the_producer_told_when_there_is_no_room_for_another() {
    let pipe = pipe(EVENTS, None);
    let full = |accepted| Ok(Gathered { accepted, is_full: true });
    gather(&pipe, &"x".repeat(CAPACITY - 2 * LOT));
    assert_eq!(pipe.gather(&[b'x'; LOT + 1]), full(LOT + 1));
    assert_eq!(pipe.gather(&[b'x'; LOT]), full(LOT), "it is a lot that was under way");
    assert_eq!(pipe.gather(&[b'x'; LOT + 1]), full(0));
    assert_eq!(pipe.write(b"x"), Ok(0));
    pipe.close();
    assert_eq!(pipe.gather(b"x"), Err(Closed));
}

#[tokio::test]
async fn what_is_gathered_leaves_with_the_end() {
    let mut stream = Stream::new(EVENTS, None);
    gather(&stream.pipe, "a");
    stream.pipe.finish();
    assert_eq!(stream.text().await, "a");
    assert_eq!(stream.end().await, End::Clean);
}

// The bound.

#[tokio::test]
async fn write_accepts_64_kib_at_most_counting_what_is_in_flight() {
    let mut stream = Stream::new(EVENTS, None);
    let item = vec![b'x'; CAPACITY];
    assert_eq!(stream.pipe.write(&item[..1000]), Ok(1000));
    let in_flight = stream.take().await;
    assert_eq!(stream.pipe.write(&item), Ok(CAPACITY - 1000));
    assert_eq!(stream.pipe.write(b"more"), Ok(0));
    drop(in_flight);
    assert_eq!(stream.pipe.write(&item), Ok(1000));
}

async fn taken_at_once(stream: &mut Stream, bytes: usize) -> usize {
    let item = vec![b'x'; CAPACITY_FOR_READERS + 1];
    let mut taken = 0;
    while taken < bytes {
        stream.pipe.write(&item[..CAPACITY]).expect("open");
        taken += stream.take().await.remaining();
    }
    stream.pipe.write(&item).expect("open")
}

#[tokio::test]
async fn chunks_earn_room_by_being_read_and_events_do_not() {
    let mut chunks = Stream::new(Kind::Chunks, None);
    assert_eq!(taken_at_once(&mut chunks, 0).await, CAPACITY);
    assert_eq!(taken_at_once(&mut chunks, 8 * CAPACITY).await, 2 * CAPACITY);
    assert_eq!(taken_at_once(&mut chunks, 8 * CAPACITY_FOR_READERS).await, CAPACITY_FOR_READERS);

    let mut events = Stream::new(EVENTS, None);
    assert_eq!(taken_at_once(&mut events, 8 * CAPACITY_FOR_READERS).await, CAPACITY);
}

#[tokio::test]
async fn bytes_count_while_they_are_being_compressed() {
    let mut stream = Stream::encoded(EVENTS, None, Some(Encoding::Zstd));
    let accepted = Arc::new(AtomicUsize::new(0));
    let producer = std::thread::spawn({
        let (pipe, accepted) = (stream.pipe.clone(), accepted.clone());
        move || {
            let item = incompressible(CAPACITY);
            while let Ok(count) = pipe.write(&item) {
                accepted.fetch_add(count, Ordering::AcqRel);
            }
        }
    });
    let mut sent = 0;
    for _ in 0..50 {
        let unsent = stream.take().await;
        let bound = sent + CAPACITY + unsent.remaining() / 64;
        let written = accepted.load(Ordering::Acquire);
        assert!(written <= bound, "{written} bytes were accepted, {sent} of them sent");
        sent += unsent.remaining();
    }
    drop(stream);
    producer.join().expect("the producer ends");
}

#[tokio::test]
async fn a_waiting_thread_goes_on_when_half_is_sent() {
    let mut stream = Stream::new(EVENTS, None);
    stream.pipe.write(&vec![b'x'; CAPACITY / 2]).expect("open");
    let first = stream.take().await;
    stream.pipe.write(&vec![b'x'; CAPACITY / 2]).expect("open");
    let waiting = std::thread::spawn({
        let pipe = stream.pipe.clone();
        move || pipe.wait_for_space()
    });
    drop(first);
    assert_eq!(waiting.join().expect("the thread ends"), Ok(()));
}

#[tokio::test]
async fn a_waiting_thread_hears_of_the_end() {
    let stream = Stream::new(EVENTS, None);
    stream.pipe.write(&vec![b'x'; CAPACITY]).expect("open");
    let waiting = std::thread::spawn({
        let pipe = stream.pipe.clone();
        move || pipe.wait_for_space()
    });
    drop(stream);
    assert_eq!(waiting.join().expect("the thread ends"), Err(Closed));
}

#[tokio::test]
async fn a_waiting_task_is_called_when_half_is_sent() {
    let mut stream = Stream::new(EVENTS, None);
    let (at_once, callback) = flag();
    stream.pipe.on_space(callback);
    assert!(at_once.load(Ordering::Acquire), "there is space already");

    stream.pipe.write(&vec![b'x'; CAPACITY]).expect("open");
    let (called, callback) = flag();
    stream.pipe.on_space(callback);
    let in_flight = stream.take().await;
    assert!(!called.load(Ordering::Acquire), "nothing is sent yet");
    drop(in_flight);
    assert!(called.load(Ordering::Acquire));
}

#[tokio::test]
async fn items_written_together_leave_together() {
    let mut stream = Stream::new(EVENTS, None);
    for item in ["data: a\n\n", "data: b\n\n", "data: c\n\n"] {
        write(&stream.pipe, item);
    }
    assert_eq!(stream.text().await, "data: a\n\ndata: b\n\ndata: c\n\n");
}

// The first moment.

#[tokio::test(start_paused = true)]
async fn an_item_within_patience_begins_the_response_at_once() {
    let mut stream = Stream::new(EVENTS, None);
    let producer = tokio::spawn({
        let pipe = stream.pipe.clone();
        async move {
            tokio::time::sleep(PATIENCE / 2).await;
            write(&pipe, "data: a\n\n");
        }
    });
    let start = Instant::now();
    assert_eq!(stream.pipe.opening(PATIENCE).await, Opening::Begin);
    assert_eq!(start.elapsed(), PATIENCE / 2);
    producer.await.expect("the producer ends");
    assert_eq!(stream.text().await, "data: a\n\n");
}

#[tokio::test(start_paused = true)]
async fn without_an_item_events_begin_with_a_comment() {
    let pipe = Pipe::new(EVENTS, None, b"retry: 5\n\n".to_vec(), Presence::new());
    let start = Instant::now();
    assert_eq!(pipe.opening(PATIENCE).await, Opening::Begin);
    assert!(start.elapsed() >= PATIENCE);
    let watch = Watch::new();
    let body = ResponseBody::Stream(StreamBody::new(pipe.clone(), None, &watch));
    let mut stream = Stream { pipe, body, watch };
    assert_eq!(stream.text().await.as_bytes(), [b"retry: 5\n\n", OPENING].concat());
    assert!(!stream.pipe.withdraw(), "the response has begun");
}

#[tokio::test(start_paused = true)]
async fn without_an_item_chunks_begin_with_nothing() {
    let mut stream = Stream::new(Kind::Chunks, None);
    assert_eq!(stream.pipe.opening(PATIENCE).await, Opening::Begin);
    assert!(stream.is_silent_for(SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn a_response_is_withdrawn_before_it_begins_and_not_after() {
    let withdrawn = pipe(EVENTS, None);
    let (opening, taken_back) = tokio::join!(withdrawn.opening(PATIENCE), async { withdrawn.withdraw() });
    assert_eq!((opening, taken_back), (Opening::Withdrawn, true));

    let begun = pipe(EVENTS, None);
    write(&begun, "data: a\n\n");
    assert!(!begun.withdraw());
    assert_eq!(begun.opening(PATIENCE).await, Opening::Begin);
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_items_begins_when_it_ends() {
    let mut stream = Stream::new(EVENTS, None);
    stream.pipe.finish();
    assert_eq!(stream.pipe.opening(PATIENCE).await, Opening::Begin);
    assert_eq!(stream.end().await, End::Clean);
}

// The client leaves.

#[tokio::test]
async fn dropping_the_body_closes_the_pipe_and_tells_the_producer() {
    let presence = Presence::new();
    let pipe = Pipe::new(EVENTS, None, Vec::new(), presence.clone());
    let watch = Watch::new();
    let body = StreamBody::new(pipe.clone(), None, &watch);
    let (told, callback) = flag();
    pipe.on_close(callback);
    assert_eq!(watch.len(), 1);
    drop(body);
    assert!(told.load(Ordering::Acquire) && presence.left() && pipe.is_closed());
    assert_eq!(pipe.write(b"data: a\n\n"), Err(Closed));
    assert!(watch.is_empty());
    let (told, callback) = flag();
    pipe.on_close(callback);
    assert!(told.load(Ordering::Acquire), "it is so already");
}

#[tokio::test]
async fn a_producer_that_is_done_is_not_told_that_the_client_left() {
    let stream = Stream::new(EVENTS, None);
    let (told, callback) = flag();
    stream.pipe.on_close(callback);
    stream.pipe.finish();
    drop(stream);
    assert!(!told.load(Ordering::Acquire));
}

#[test]
fn a_withdrawn_pipe_holds_on_to_nothing_of_its_producer() {
    let pipe = pipe(EVENTS, None);
    let producer = Arc::new(pipe.clone());
    let held = producer.clone();
    pipe.on_close(Box::new(move || drop(held)));
    assert!(pipe.withdraw());
    assert_eq!(Arc::strong_count(&producer), 1);
}

// The end.

#[tokio::test]
async fn a_cut_waits_until_all_before_it_is_sent() {
    let mut stream = Stream::new(EVENTS, None);
    write(&stream.pipe, "data: a\n\n");
    stream.pipe.cut(b"event: error\n\n");
    let in_flight = stream.take().await;
    assert_eq!(in_flight.chunk(), b"data: a\n\nevent: error\n\n");
    assert!(stream.is_silent_for(Duration::from_millis(10)).await);
    let (end, ()) = tokio::join!(stream.end(), async { drop(in_flight) });
    assert_eq!(end, End::Cut);
}

#[tokio::test]
async fn last_words_fit_behind_a_full_buffer_but_not_into_an_item() {
    let full = vec![b'x'; CAPACITY];
    let mut between = Stream::new(EVENTS, None);
    assert_eq!(between.pipe.write(&full), Ok(CAPACITY));
    assert_eq!(between.pipe.write(b"data: a\n\n"), Ok(0));
    between.pipe.cut(b"last");
    assert_eq!(between.take().await.remaining(), CAPACITY + 4);
    assert_eq!(between.end().await, End::Cut);

    let mut inside = Stream::new(EVENTS, None);
    assert_eq!(inside.pipe.write(&[&full[..], b"x"].concat()), Ok(CAPACITY));
    assert_eq!(inside.pipe.write(b"x"), Ok(0));
    inside.pipe.cut(b"last");
    assert_eq!(inside.take().await.remaining(), CAPACITY);
    assert_eq!(inside.end().await, End::Cut);
}

#[tokio::test]
async fn half_an_item_is_never_terminated_as_if_it_were_whole() {
    let item = vec![b'x'; CAPACITY + 1];
    let mut finished = Stream::new(Kind::Chunks, None);
    finished.pipe.write(&item).expect("open");
    finished.pipe.finish();
    drop(finished.take().await);
    assert_eq!(finished.end().await, End::Cut);

    let mut shut_down = Stream::new(EVENTS, None);
    shut_down.pipe.write(&item).expect("open");
    shut_down.watch.shut_down();
    drop(shut_down.take().await);
    assert_eq!(shut_down.end().await, End::Cut);
}

#[tokio::test]
async fn a_finished_stream_that_is_aborted_is_cut() {
    let mut stream = Stream::new(Kind::Chunks, None);
    write(&stream.pipe, "the last chunk, which nobody has taken");
    stream.pipe.finish();
    stream.watch.abort();
    assert_eq!(stream.end().await, End::Cut);
}

#[tokio::test]
async fn shutdown_ends_events_after_what_is_written_and_leaves_chunks_alone() {
    let mut events = Stream::new(EVENTS, None);
    write(&events.pipe, "data: a\n\n");
    events.watch.shut_down();
    assert_eq!(events.pipe.write(b"data: b\n\n"), Err(Closed));
    assert_eq!(events.text().await, "data: a\n\n");
    assert_eq!(events.end().await, End::Clean);

    let mut chunks = Stream::new(Kind::Chunks, None);
    chunks.watch.shut_down();
    write(&chunks.pipe, "more");
    chunks.pipe.finish();
    assert_eq!(chunks.text().await, "more");
    assert_eq!(chunks.end().await, End::Clean);
}

#[tokio::test]
async fn events_that_begin_during_the_shutdown_end_at_once() {
    let watch = Watch::new();
    watch.shut_down();
    let pipe = pipe(EVENTS, None);
    let body = ResponseBody::Stream(StreamBody::new(pipe.clone(), None, &watch));
    assert_eq!(Stream { pipe, body, watch }.end().await, End::Clean);
}

// Keep-alive.

#[tokio::test(start_paused = true)]
async fn a_silent_stream_is_kept_alive_with_a_bare_line() {
    let mut stream = Stream::new(PINGED, Some(SEND_TIMEOUT)).watched();
    for _ in 0..3 {
        let start = Instant::now();
        assert_eq!(stream.text().await.as_bytes(), KEEP_ALIVE);
        assert!(start.elapsed().abs_diff(PING) <= Duration::from_millis(1));
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_puts_the_keep_alive_off() {
    let mut stream = Stream::new(PINGED, None).watched();
    let start = Instant::now();
    assert!(stream.is_silent_for(PING * 2 / 3).await);
    write(&stream.pipe, "data: a\n\n");
    assert_eq!(stream.text().await, "data: a\n\n");
    assert_eq!(stream.text().await.as_bytes(), KEEP_ALIVE);
    assert!(start.elapsed().abs_diff(PING * 5 / 3) <= Duration::from_millis(2));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_put_into_an_item() {
    let mut stream = Stream::new(PINGED, None).watched();
    let item = vec![b'x'; CAPACITY + 5];
    assert_eq!(stream.pipe.write(&item), Ok(CAPACITY));
    drop(stream.take().await);
    assert!(stream.is_silent_for(PING * 4).await);
    assert_eq!(stream.pipe.write(&item[CAPACITY..]), Ok(5));
    assert_eq!(stream.text().await, "xxxxx");
    assert_eq!(stream.text().await.as_bytes(), KEEP_ALIVE);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_behind_gets_no_keep_alives() {
    let mut stream = Stream::new(PINGED, None).watched();
    write(&stream.pipe, "data: a\n\n");
    let in_flight = stream.take().await;
    assert!(stream.is_silent_for(PING * 4).await);
    drop(in_flight);
    assert_eq!(stream.text().await.as_bytes(), KEEP_ALIVE);
}

#[tokio::test(start_paused = true)]
async fn chunks_and_unpinged_events_are_left_silent() {
    for kind in [Kind::Chunks, EVENTS] {
        let mut stream = Stream::new(kind, Some(SEND_TIMEOUT)).watched();
        assert!(stream.is_silent_for(PING * 10).await);
    }
}

#[tokio::test(start_paused = true)]
async fn extreme_times_are_taken_as_they_are() {
    let never = Kind::Events { ping: Some(Duration::MAX) };
    let mut stream = Stream::new(never, Some(Duration::MAX)).watched();
    write(&stream.pipe, "data: a\n\n");
    let in_flight = stream.take().await;
    assert!(stream.is_silent_for(SECOND * 1_000_000).await);
    drop(in_flight);

    let always = Kind::Events { ping: Some(Duration::ZERO) };
    let mut stream = Stream::new(always, None).watched();
    assert_eq!(stream.text().await.as_bytes(), KEEP_ALIVE);
}

// The send timeout.

async fn closes_after(pipe: &Arc<Pipe>) -> Duration {
    let start = Instant::now();
    let (sender, closed) = tokio::sync::oneshot::channel();
    pipe.on_close(Box::new(move || sender.send(()).expect("the test waits")));
    closed.await.expect("the pipe is closed");
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_dropped_after_the_send_timeout() {
    let mut stream = Stream::new(PINGED, Some(SEND_TIMEOUT)).watched();
    write(&stream.pipe, "data: a\n\n");
    let in_flight = stream.take().await;
    let elapsed = closes_after(&stream.pipe).await;
    assert!(elapsed.abs_diff(SEND_TIMEOUT) <= Duration::from_millis(1), "{elapsed:?}");
    drop(in_flight);
    assert_eq!(stream.end().await, End::Cut);
}

#[tokio::test(start_paused = true)]
async fn every_byte_taken_puts_the_send_timeout_off() {
    let mut stream = Stream::new(EVENTS, Some(SEND_TIMEOUT)).watched();
    write(&stream.pipe, "data: a\n\n");
    let mut in_flight = stream.take().await;
    for _ in 0..4 {
        assert!(stream.is_silent_for(SEND_TIMEOUT * 2 / 3).await);
        in_flight.advance(1);
    }
    let elapsed = closes_after(&stream.pipe).await;
    assert!(elapsed.abs_diff(SEND_TIMEOUT) <= Duration::from_millis(1), "{elapsed:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_written_after_a_silence_has_the_whole_send_timeout() {
    let written: [fn(&Pipe); 3] = [|pipe| write(pipe, "data: b\n\n"), |pipe| pipe.cut(b"last"), Pipe::finish];
    for write_after_silence in written {
        let mut stream = Stream::encoded(EVENTS, Some(SEND_TIMEOUT), Some(Encoding::Gzip)).watched();
        write(&stream.pipe, "data: a\n\n");
        drop(stream.take().await);
        assert!(stream.is_silent_for(SEND_TIMEOUT * 5).await);
        write_after_silence(&stream.pipe);
        let in_flight = stream.take().await;
        let elapsed = closes_after(&stream.pipe).await;
        assert!(elapsed.abs_diff(SEND_TIMEOUT) <= Duration::from_millis(1), "{elapsed:?}");
        drop(in_flight);
    }
}

#[tokio::test(start_paused = true)]
async fn an_offer_that_comes_nowhere_closes_the_pipe() {
    let unread = pipe(EVENTS, None);
    drop(Offer::new(unread.clone()));
    assert!(unread.is_closed());

    let left_while_opening = pipe(EVENTS, None);
    let accepting = Offer::new(left_while_opening.clone()).accept(PATIENCE);
    assert!(timeout(PATIENCE / 2, accepting).await.is_err());
    assert!(left_while_opening.is_closed());
}

#[tokio::test(start_paused = true)]
async fn an_offer_that_is_accepted_or_withdrawn_leaves_the_pipe_alone() {
    let begun = pipe(EVENTS, None);
    assert!(Offer::new(begun.clone()).accept(PATIENCE).await.is_some());
    assert!(!begun.is_closed());

    let withdrawn = pipe(EVENTS, None);
    assert!(withdrawn.withdraw());
    assert!(Offer::new(withdrawn.clone()).accept(PATIENCE).await.is_none());
    assert!(!withdrawn.is_closed());
}
