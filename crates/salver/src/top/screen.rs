//! The terminal as a page that is drawn over and over: a screen of its own, keys without Enter.
//!
//! Everything is put back when the value is dropped.

use std::io::{Read as _, Write as _, stdin, stdout};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

/// Switches to the second screen and hides the cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// Takes both back.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// Where a terminal does not know its size.
const USUAL_SIZE: (usize, usize) = (80, 24);
/// Keys that wait to be read; one more waits in the terminal.
const KEYS: usize = 8;

/// The terminal while it is a page.
pub(crate) struct Screen {
    /// How the terminal read its keys before; none where keys come from elsewhere.
    before: Option<Termios>,
    keys: mpsc::Receiver<u8>,
}

impl Screen {
    /// Takes the terminal over. Ctrl-C still sends its signal.
    pub(crate) fn enter() -> Self {
        let before = tcgetattr(stdin()).ok().filter(|before| {
            let mut modes = before.clone();
            modes.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            tcsetattr(stdin(), OptionalActions::Now, &modes).is_ok()
        });
        let (tx, keys) = mpsc::channel(KEYS);
        if before.is_some() {
            // Reading blocks until a key comes; the thread ends with the process.
            std::thread::spawn(move || {
                for key in stdin().lock().bytes().map_while(Result::ok) {
                    if tx.blocking_send(key).is_err() {
                        return;
                    }
                }
            });
        }
        write(ENTER);
        Self { before, keys }
    }

    /// Waits for a key. Where there are none, for ever.
    pub(crate) async fn key(&mut self) -> u8 {
        match self.keys.recv().await {
            Some(key) => key,
            None => std::future::pending().await,
        }
    }

    /// Draws a page: `body`, cut to what fits, and `foot` on the last line.
    pub(crate) fn draw(&self, body: &str, foot: &str) {
        let size = tcgetwinsize(stdout()).map(|size| (usize::from(size.ws_col), usize::from(size.ws_row)));
        let (columns, rows) = size.ok().filter(|(columns, rows)| *columns > 0 && *rows > 1).unwrap_or(USUAL_SIZE);
        write(&page(body, foot, columns, rows));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        write(LEAVE);
        if let Some(before) = &self.before {
            // Nobody is left who could be told.
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}

/// A terminal that is closed cannot be told that it is.
fn write(text: &str) {
    let mut out = stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Draws over what is there, line by line, so that nothing flickers.
fn page(body: &str, foot: &str, columns: usize, rows: usize) -> String {
    let cut = |line: &str| line.chars().take(columns).collect::<String>();
    let lines: Vec<&str> = body.lines().collect();
    let room = rows - 1;
    let shown = if lines.len() <= room { lines.len() } else { room - 1 };
    let mut page = String::from("\x1b[H");
    for line in &lines[..shown] {
        page.push_str(&cut(line));
        page.push_str("\x1b[K\r\n");
    }
    if shown < lines.len() {
        page.push_str(&cut(&format!("… {} more", lines.len() - shown)));
    }
    page.push_str(&format!("\x1b[J\x1b[{rows};1H{}", cut(foot)));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_fits_is_shown_whole() {
        assert_eq!(page("a\nb", "q: quit", 80, 4), "\x1b[Ha\x1b[K\r\nb\x1b[K\r\n\x1b[J\x1b[4;1Hq: quit");
    }

    #[test]
    fn a_page_that_does_not_fit_says_how_much_is_missing() {
        let shown = page("abcdef\nb\nc\nd\ne", "foot", 3, 4);
        assert!(shown.contains("abc\x1b[K") && !shown.contains("abcd"), "{shown:?}");
        assert!(shown.contains("b\x1b[K") && !shown.contains("c\x1b[K\r\nd"), "{shown:?}");
        assert!(page("a\nb\nc\nd\ne", "foot", 80, 4).contains("\r\n… 3 more\x1b[J"), "{shown:?}");
    }
}
