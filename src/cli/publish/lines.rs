//! Standard input as the NDJSON body of a request, sent as it arrives.

use std::io::{self, BufRead, BufReader, Read, Stdin};

use serde::Serialize;

use super::early_response::EarlyResponse;

/// The fields that all lines of plain data share.
#[derive(Debug)]
pub(super) struct LineTemplate {
    pub(super) namespace: String,
    pub(super) event: Option<String>,
    pub(super) retry: Option<u64>,
}

/// The JSON form of an event.
#[derive(Serialize)]
struct LineEvent<'a> {
    namespace: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<u64>,
    data: &'a str,
}

/// Reads lines and encodes each as an event. It ends when the server responds early.
pub(super) struct Lines<In = BufReader<Stdin>> {
    input: In,
    /// The fields of the events whose data the lines are. `None` if the lines are JSON objects.
    template: Option<LineTemplate>,
    early_response: EarlyResponse,
    /// Encoded bytes that are still to be sent.
    encoded: Vec<u8>,
    /// Number of lines read.
    count: u64,
    /// Why reading ended before the end of the input.
    problem: Option<String>,
}

/// An input that knows whether a complete line can be read without waiting.
pub(super) trait LineInput: BufRead {
    fn has_line(&self) -> bool;
}

impl<R: Read> LineInput for BufReader<R> {
    fn has_line(&self) -> bool {
        self.buffer().contains(&b'\n')
    }
}

impl Lines {
    pub(super) fn new(template: Option<LineTemplate>, early_response: EarlyResponse) -> Self {
        Self::from_input(
            BufReader::with_capacity(64 << 10, io::stdin()),
            template,
            early_response,
        )
    }
}

impl<In: LineInput> Lines<In> {
    fn from_input(
        input: In,
        template: Option<LineTemplate>,
        early_response: EarlyResponse,
    ) -> Self {
        Self {
            input,
            template,
            early_response,
            encoded: Vec::new(),
            count: 0,
            problem: None,
        }
    }

    /// The number of lines that were read, and why reading ended early.
    pub(super) fn finish(self) -> (u64, Option<String>) {
        (self.count, self.problem)
    }

    /// Reads and encodes one line. `false` at the end of the input or after an invalid line.
    fn encode_line(&mut self) -> io::Result<bool> {
        let mut line = Vec::new();
        match self.input.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(false),
            Ok(_) => self.count += 1,
            Err(error) => {
                self.problem = Some(format!("cannot read standard input: {error}"));
                return Ok(false);
            }
        }
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        match &self.template {
            None => self.encoded.extend_from_slice(line),
            Some(template) => {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                let Ok(data) = str::from_utf8(line) else {
                    self.problem = Some(format!("line {} is not UTF-8", self.count));
                    return Ok(false);
                };
                let event = LineEvent {
                    namespace: &template.namespace,
                    event: template.event.as_deref(),
                    retry: template.retry,
                    data,
                };
                serde_json::to_writer(&mut self.encoded, &event)?;
            }
        }
        self.encoded.push(b'\n');
        Ok(true)
    }
}

impl<In: LineInput> Read for Lines<In> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.early_response.is_set() {
            return Ok(0);
        }
        // Lines that have already arrived are sent together. None waits for a later one.
        while self.problem.is_none()
            && self.encoded.len() < buffer.len()
            && (self.encoded.is_empty() || self.input.has_line())
        {
            if !self.encode_line()? {
                break;
            }
        }
        let count = self.encoded.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.encoded[..count]);
        self.encoded.drain(..count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_json_objects_or_stay_as_they_are() {
        let template = |event: Option<&str>| {
            Some(LineTemplate {
                namespace: "/a".into(),
                event: event.map(Into::into),
                retry: None,
            })
        };
        for (input, template, expected, problem) in [
            ("", template(None), "", None),
            (
                "one\r\n\ntwo",
                template(None),
                "{\"namespace\":\"/a\",\"data\":\"one\"}\n{\"namespace\":\"/a\",\"data\":\"\"}\n\
                 {\"namespace\":\"/a\",\"data\":\"two\"}\n",
                None,
            ),
            (
                "\"\n",
                template(Some("e")),
                "{\"namespace\":\"/a\",\"event\":\"e\",\"data\":\"\\\"\"}\n",
                None,
            ),
            ("{}\r\n{}", None, "{}\r\n{}\n", None),
        ] {
            let mut lines = Lines::from_input(
                BufReader::new(input.as_bytes()),
                template,
                EarlyResponse::default(),
            );
            let mut encoded = String::new();
            lines.read_to_string(&mut encoded).unwrap();
            assert_eq!(encoded, expected);
            assert_eq!(lines.finish().1, problem);
        }
    }

    #[test]
    fn a_line_that_is_not_utf_8_ends_the_body() {
        let template = LineTemplate {
            namespace: "/a".into(),
            event: None,
            retry: None,
        };
        let input = BufReader::new(&b"one\nt\xffwo\nthree\n"[..]);
        let mut lines = Lines::from_input(input, Some(template), EarlyResponse::default());
        let mut encoded = String::new();
        lines.read_to_string(&mut encoded).unwrap();
        assert_eq!(encoded.lines().count(), 1);
        assert_eq!(lines.finish(), (2, Some("line 2 is not UTF-8".into())));
    }

    #[test]
    fn an_early_response_ends_the_body() {
        let early_response = EarlyResponse::default();
        early_response.set();
        let mut lines = Lines::from_input(BufReader::new(&b"{}\n"[..]), None, early_response);
        assert_eq!(lines.read(&mut [0; 9]).unwrap(), 0);
    }
}
