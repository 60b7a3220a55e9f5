//! Server-sent events: the lines that a streamed answer comes in.

use std::io::{BufRead, BufReader, Read};

/// Longest line; a stream without line breaks is no stream of events.
const LONGEST: u64 = 16 << 20;

/// The data of each event, until the stream ends.
pub struct Events<R> {
    reader: BufReader<R>,
}

impl<R: Read> Events<R> {
    /// Reads from the body of an answer.
    pub fn new(body: R) -> Self {
        Self { reader: BufReader::new(body) }
    }

    /// The data of the next event, several lines of it joined; nothing at the end.
    ///
    /// # Errors
    /// Of the connection, and for an event that the end cuts off.
    pub fn data(&mut self) -> std::io::Result<Option<String>> {
        let mut data: Option<String> = None;
        loop {
            let mut line = Vec::new();
            let length = (&mut self.reader).take(LONGEST).read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') {
                let cut = || std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the stream ends within an event");
                return if length == 0 && data.is_none() { Ok(None) } else { Err(cut()) };
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\n', '\r']);
            if text.is_empty() {
                if data.is_some() {
                    return Ok(data);
                }
                continue;
            }
            // Comments and other fields say nothing here.
            if let Some(value) = text.strip_prefix("data:") {
                let value = value.strip_prefix(' ').unwrap_or(value);
                data = Some(data.map_or_else(|| value.to_owned(), |before| format!("{before}\n{value}")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<String>, bool) {
        let mut events = Events::new(text.as_bytes());
        let mut found = Vec::new();
        loop {
            match events.data() {
                Ok(Some(data)) => found.push(data),
                Ok(None) => return (found, true),
                Err(_) => return (found, false),
            }
        }
    }

    #[test]
    fn data_is_read_line_by_line_and_all_else_is_passed_over() {
        assert_eq!(
            read("data: {\"a\":1}\n\n: ping\n\nevent: x\r\ndata:b\r\ndata: c\r\n\r\n"),
            (vec!["{\"a\":1}".into(), "b\nc".into()], true)
        );
        assert_eq!(read(""), (vec![], true));
        assert_eq!(read("\n\n"), (vec![], true));
    }

    #[test]
    fn a_cut_event_is_none() {
        assert_eq!(read("data: a\n\ndata: b"), (vec!["a".into()], false));
        assert_eq!(read("data: a\n\ndata: b\n"), (vec!["a".into()], false));
    }
}
