//! Looks for `Content-Length` and `Transfer-Encoding` in the raw head of an HTTP/1 request.
//!
//! hyper follows RFC 9112 and drops `Content-Length` where both stand, so a handler cannot see
//! that they did. Such a request is the usual vehicle of request smuggling and is refused; this
//! scan is what notices it. It knows nothing else about HTTP.

/// Walks over the bytes of one head, in pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct HeadScan {
    /// Bytes of the current line that matter: its beginning, lower case.
    line: [u8; LINE],
    line_len: usize,
    any_line: bool,
    has_length: bool,
    is_done: bool,
}

/// As long as the longer of the names sought, with its colon.
const LINE: usize = LENGTH.len();
const LENGTH: &[u8] = b"content-length:";

impl HeadScan {
    /// Takes the next bytes; what follows the head is ignored.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while !self.is_done && !bytes.is_empty() {
            let end = bytes.iter().position(|&byte| byte == b'\n');
            let part = &bytes[..end.unwrap_or(bytes.len())];
            let room = LINE.saturating_sub(self.line_len).min(part.len());
            self.line[self.line_len..self.line_len + room].copy_from_slice(&part[..room]);
            self.line_len += room;
            let Some(end) = end else {
                return;
            };
            self.end_line();
            bytes = &bytes[end + 1..];
        }
    }

    fn end_line(&mut self) {
        let line = &self.line[..self.line_len];
        match line {
            // Blank lines before the request line are allowed.
            [] | [b'\r'] => self.is_done = self.any_line,
            _ => {
                self.any_line = true;
                self.has_length |= line.eq_ignore_ascii_case(LENGTH);
            }
        }
        self.line_len = 0;
    }

    /// Whether the whole head was seen.
    pub(crate) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Whether a `Content-Length` was among the fields.
    pub(crate) fn has_length(&self) -> bool {
        self.has_length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(head: &str, done: bool, has_length: bool) {
        for piece in [1, 3, 7, head.len().max(1)] {
            let mut scan = HeadScan::default();
            head.as_bytes().chunks(piece).for_each(|bytes| scan.feed(bytes));
            assert_eq!((scan.is_done(), scan.has_length()), (done, has_length), "{head:?} in pieces of {piece}");
        }
    }

    #[test]
    fn a_length_is_seen_in_any_case_and_place() {
        check("POST / HTTP/1.1\r\nContent-Length: 3\r\nHost: x\r\n\r\n", true, true);
        check("POST / HTTP/1.1\r\nHost: x\r\ncontent-LENGTH:3\r\n\r\nabc", true, true);
        check("POST / HTTP/1.1\nContent-Length:3\n\n", true, true);
    }

    #[test]
    fn names_that_only_look_alike_and_bodies_do_not_count() {
        check("GET / HTTP/1.1\r\nX-Content-Length: 3\r\n\r\n", true, false);
        check("GET / HTTP/1.1\r\nContent-Lengths: 3\r\n\r\n", true, false);
        check("POST / HTTP/1.1\r\nHost: x\r\n\r\nContent-Length: 3\r\n\r\n", true, false);
    }

    #[test]
    fn an_unfinished_head_is_not_done() {
        check("\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n", false, false);
        check("", false, false);
    }
}
