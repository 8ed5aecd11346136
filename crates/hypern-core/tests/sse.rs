//! What goes into the wire format comes out of a client's parser, and nothing else does.

mod event_stream;

use event_stream::{Dispatched, Parsed, parse};
use hypern_core::sse::{self, Event};
use proptest::prelude::*;

/// Text that leans towards what could break the format.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("\n".to_owned()),
        Just("\r".to_owned()),
        Just("\r\n".to_owned()),
        Just("\0".to_owned()),
        Just(" ".to_owned()),
        Just(":".to_owned()),
        Just("data: evil".to_owned()),
        Just("id: evil".to_owned()),
        Just("\u{feff}".to_owned()),
        Just("\u{2028}".to_owned()),
        any::<char>().prop_map(String::from),
        "[a-z ]{0,40}",
    ];
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

/// Text that may be an id and an event.
fn line() -> impl Strategy<Value = String> {
    text().prop_map(|text| text.replace(['\r', '\n', '\0'], ""))
}

#[derive(Clone, Debug)]
struct Owned {
    id: Option<String>,
    event: Option<String>,
    retry: Option<u64>,
    data: String,
}

fn event() -> impl Strategy<Value = Owned> {
    (proptest::option::of(line()), proptest::option::of(line()), any::<Option<u64>>(), text())
        .prop_map(|(id, event, retry, data)| Owned { id, event, retry, data })
}

/// The line breaks of data, as a client reads them back.
fn normalized(data: &str) -> String {
    data.replace("\r\n", "\n").replace('\r', "\n")
}

/// What a client must have seen after `events`.
fn expected(events: &[Owned]) -> Parsed {
    let mut parsed = Parsed::default();
    let mut last_event_id = String::new();
    for event in events {
        last_event_id = event.id.clone().unwrap_or(last_event_id);
        parsed.reconnection_time = event.retry.or(parsed.reconnection_time);
        parsed.events.push(Dispatched {
            kind: event.event.clone().filter(|kind| !kind.is_empty()).unwrap_or("message".to_owned()),
            data: normalized(&event.data),
            last_event_id: last_event_id.clone(),
        });
    }
    parsed
}

fn encode(event: &Owned, out: &mut Vec<u8>) {
    Event { id: event.id.as_deref(), event: event.event.as_deref(), retry: event.retry, data: &event.data }
        .encode(out);
}

proptest! {
    #[test]
    fn events_come_back_as_they_went_in(events in proptest::collection::vec(event(), 0..6)) {
        let mut out = Vec::new();
        for event in &events {
            encode(event, &mut out);
        }
        prop_assert_eq!(parse(&out), expected(&events));
    }

    #[test]
    fn comments_and_keep_alives_dispatch_nothing(comments in proptest::collection::vec(text(), 1..4), event in event()) {
        let mut out = sse::OPENING.to_vec();
        for comment in &comments {
            sse::encode_comment(comment, &mut out);
            out.extend_from_slice(sse::KEEP_ALIVE);
        }
        encode(&event, &mut out);
        let parsed = parse(&out);
        let wanted = expected(&[event]);
        prop_assert_eq!(&parsed.events, &wanted.events);
        prop_assert_eq!(parsed.reconnection_time, wanted.reconnection_time);
        prop_assert!(parsed.ignored_fields.is_empty() && !parsed.is_unfinished);
        let mut lines = vec![" open".to_owned()];
        for comment in &comments {
            lines.extend(normalized(comment).split('\n').map(|line| format!(" {line}")));
            lines.push(" keepalive".to_owned());
        }
        prop_assert_eq!(parsed.comments, lines);
    }

    #[test]
    fn what_the_checks_let_pass_is_one_line(value in text()) {
        prop_assert_eq!(sse::check_id(&value).is_ok(), !value.contains(['\r', '\n', '\0']));
        prop_assert_eq!(sse::check_event(&value).is_ok(), !value.contains(['\r', '\n']));
    }

    #[test]
    fn a_retry_alone_dispatches_nothing(milliseconds in any::<u64>()) {
        let mut out = Vec::new();
        sse::encode_retry(milliseconds, &mut out);
        prop_assert_eq!(parse(&out), Parsed { reconnection_time: Some(milliseconds), ..Parsed::default() });
    }
}
