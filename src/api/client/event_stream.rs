//! Server-sent events: bytes → events, with a limit, because libraries for it read as much as they are sent.

/// How large one event may be.
const LARGEST: usize = 4 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StreamEvent {
    /// Its number.
    pub(super) id: Option<u64>,
    /// Its content.
    pub(super) data: String,
}

/// An event is larger than any.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// Describes what has come of a stream and is not yet an event.
#[derive(Debug, Default)]
pub(super) struct EventStream {
    line: Vec<u8>,
    id: Option<u64>,
    data: Option<String>,
    /// The last byte was a carriage return: a line feed after it belongs to it.
    after_return: bool,
}

impl EventStream {
    /// Takes bytes in, and hands out the events that have ended with them.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Vec<StreamEvent>, TooLarge> {
        let mut events = Vec::new();
        for byte in bytes {
            let follows_return = std::mem::replace(&mut self.after_return, *byte == b'\r');
            match byte {
                b'\n' if follows_return => {}
                b'\n' | b'\r' => events.extend(self.end_line()),
                byte => self.line.push(*byte),
            }
            if self.line.len() + self.data.as_ref().map_or(0, String::len) > LARGEST {
                return Err(TooLarge);
            }
        }
        Ok(events)
    }

    /// Takes a whole line in. An empty one ends an event; one that begins with a colon is a heartbeat.
    fn end_line(&mut self) -> Option<StreamEvent> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let id = self.id;
            return self.data.take().map(|data| StreamEvent { id, data });
        }
        let line = String::from_utf8_lossy(&line);
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => self.id = value.parse().ok().or(self.id),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(id: Option<u64>, data: &str) -> StreamEvent {
        StreamEvent { id, data: data.to_owned() }
    }

    #[test]
    fn events_heartbeats_and_line_ends() {
        let mut stream = EventStream::default();
        let text =
            b": hello\n\nid: 1\nevent: notice\ndata: {\"a\":1}\n\n: heartbeat\n\nid:2\r\ndata:x\r\ndata: y\r\n\r\ndata: no end";
        assert_eq!(stream.take(text).unwrap(), [event(Some(1), "{\"a\":1}"), event(Some(2), "x\ny")]);
        assert_eq!(stream.take(b"\n\n").unwrap(), [event(Some(2), "no end")]);
        assert_eq!(stream.take(&vec![b'x'; LARGEST + 1]), Err(TooLarge));
    }

    proptest! {
        #[test]
        fn where_a_stream_is_cut_into_pieces_changes_nothing(text in "(id: [0-9]|data: [a-z\u{e9}]{0,3}|:|\r\n|\n|\r){0,24}", cut in 0_usize..64) {
            let bytes = text.as_bytes();
            let whole = EventStream::default().take(bytes).unwrap();
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            let mut stream = EventStream::default();
            let mut pieces = stream.take(first).unwrap();
            pieces.extend(stream.take(second).unwrap());
            prop_assert_eq!(whole, pieces);
        }
    }
}
