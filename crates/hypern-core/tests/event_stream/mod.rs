//! A client's view of an event stream: the parser of WHATWG HTML, 9.2.6 "Interpreting an event stream".

/// An event as a browser would dispatch it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dispatched {
    pub(crate) kind: String,
    pub(crate) data: String,
    pub(crate) last_event_id: String,
}

/// Everything a parser saw, and what browsers drop silently too, so that a test can ask for its absence.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) events: Vec<Dispatched>,
    pub(crate) reconnection_time: Option<u64>,
    pub(crate) comments: Vec<String>,
    pub(crate) ignored_fields: Vec<String>,
    /// Text behind the last blank line, which no client dispatches.
    pub(crate) is_unfinished: bool,
}

/// Parses a whole stream of UTF-8.
pub(crate) fn parse(stream: &[u8]) -> Parsed {
    let text = std::str::from_utf8(stream).expect("an event stream is UTF-8");
    let mut parser = Parser::default();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    while let Some(end) = rest.find(['\r', '\n']) {
        parser.line(&rest[..end]);
        let is_pair = rest[end..].starts_with("\r\n");
        rest = &rest[end + 1 + usize::from(is_pair)..];
    }
    parser.parsed.is_unfinished = !rest.is_empty() || !parser.data.is_empty();
    parser.parsed
}

#[derive(Default)]
struct Parser {
    data: String,
    kind: String,
    last_event_id: String,
    parsed: Parsed,
}

impl Parser {
    fn line(&mut self, line: &str) {
        if line.is_empty() {
            return self.dispatch();
        }
        match line.split_once(':') {
            Some(("", comment)) => self.parsed.comments.push(comment.to_owned()),
            Some((name, value)) => self.field(name, value.strip_prefix(' ').unwrap_or(value)),
            None => self.field(line, ""),
        }
    }

    fn field(&mut self, name: &str, value: &str) {
        match name {
            "event" => self.kind = value.to_owned(),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => self.last_event_id = value.to_owned(),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.parsed.reconnection_time = value.parse().ok();
            }
            _ => self.parsed.ignored_fields.push(format!("{name}: {value}")),
        }
    }

    fn dispatch(&mut self) {
        let data = std::mem::take(&mut self.data);
        let kind = std::mem::take(&mut self.kind);
        let Some(data) = data.strip_suffix('\n') else { return };
        self.parsed.events.push(Dispatched {
            kind: if kind.is_empty() { "message".to_owned() } else { kind },
            data: data.to_owned(),
            last_event_id: self.last_event_id.clone(),
        });
    }
}
