//! The event stream parser, as the HTML standard has it (section 9.2.6), for data alone.

use memchr::memchr2;

/// Finds the events in a stream that arrives in pieces.
#[derive(Default)]
pub(crate) struct Parser {
    /// The start of a line whose end has not arrived.
    carry: Vec<u8>,
    /// The data lines of the event so far.
    data: Vec<u8>,
    has_data: bool,
    /// The last piece ended in CR: an LF that follows belongs to it.
    after_carriage_return: bool,
}

impl Parser {
    /// Takes a piece of the stream and gives each whole event's data to `on_event`.
    pub(crate) fn feed(&mut self, mut input: &[u8], mut on_event: impl FnMut(&[u8])) {
        if self.after_carriage_return && !input.is_empty() {
            self.after_carriage_return = false;
            input = input.strip_prefix(b"\n").unwrap_or(input);
        }
        while let Some(end) = memchr2(b'\n', b'\r', input) {
            if self.carry.is_empty() {
                self.line(&input[..end], &mut on_event);
            } else {
                self.carry.extend_from_slice(&input[..end]);
                let mut line = std::mem::take(&mut self.carry);
                self.line(&line, &mut on_event);
                line.clear();
                self.carry = line;
            }
            input = self.after_line(&input[end..]);
        }
        self.carry.extend_from_slice(input);
    }

    fn after_line<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        match rest {
            [b'\r', b'\n', rest @ ..] => rest,
            [b'\r'] => {
                self.after_carriage_return = true;
                &[]
            }
            rest => &rest[1..],
        }
    }

    fn line(&mut self, line: &[u8], on_event: &mut impl FnMut(&[u8])) {
        if line.is_empty() {
            if self.has_data {
                on_event(&self.data);
            }
            self.has_data = false;
            self.data.clear();
        } else if let Some(value) = line.strip_prefix(b"data")
            && let Some(value) = if value.is_empty() { Some(value) } else { value.strip_prefix(b":") }
        {
            if self.has_data {
                self.data.push(b'\n');
            }
            self.has_data = true;
            self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[&str]) -> Vec<String> {
        let mut parser = Parser::default();
        let mut found = Vec::new();
        for piece in pieces {
            parser.feed(piece.as_bytes(), |data| found.push(String::from_utf8_lossy(data).into_owned()));
        }
        found
    }

    #[test]
    fn fields_comments_and_line_ends() {
        let stream = "id: 1\nevent: a\ndata: x\n\n: comment\n\nretry: 5\n\ndata: y\r\n\r\ndata:z\rdata\r\rdatax: no\n\n";
        assert_eq!(events(&[stream]), ["x", "y", "z\n"]);
    }

    #[test]
    fn a_stream_may_be_cut_anywhere() {
        let stream = "id: 1\r\ndata: Event 1\r\n\r\n: open\ndata: Event 2\n\n";
        for at in 0..stream.len() {
            let (head, tail) = stream.split_at(at);
            assert_eq!(events(&[head, tail]), ["Event 1", "Event 2"], "cut at {at}");
        }
    }

    #[test]
    fn an_event_that_is_not_whole_is_not_counted() {
        assert_eq!(events(&["data: x\n"]), Vec::<String>::new());
    }
}
