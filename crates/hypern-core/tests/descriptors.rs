//! A process that has run out of file descriptors; alone in its process, whose limit it lowers.

use std::fs::File;

mod serving;
use serving::{Client, Plan, text};

fn limit_descriptors(limit: libc::rlim_t) {
    let limits = libc::rlimit { rlim_cur: limit, rlim_max: limit };
    // SAFETY: the limits are live and initialised.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limits) }, 0);
}

#[tokio::test]
async fn connections_wait_until_there_are_descriptors_again() {
    let server = Plan::new().get("/", text("hello")).start();
    let mut early = Client::get(&server, "/").await;
    early.head().await;
    early.expect("hello").await;

    limit_descriptors(64);
    let mut held: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    // Enough for the client's end, not for the server's.
    held.pop();
    let mut late = Client::get(&server, "/").await;
    assert!(late.is_left_waiting().await);
    early.ask("GET", "/").await;
    early.head().await;
    early.expect("hello").await;

    drop(held);
    late.head().await;
    late.expect("hello").await;
}
