//! The program in a real pseudo-terminal, and the screen that a terminal would show.

use std::io::{Read, Write};
use std::num::NonZero;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

/// How long a text is waited for. Generous: it is only waited out when a test fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// moim in a terminal.
pub struct Session {
    master: Box<dyn MasterPty + Send>,
    child: Box<dyn Child + Send + Sync>,
    keyboard: Box<dyn Write + Send>,
    output: Receiver<Vec<u8>>,
    parser: vt100::Parser,
    /// Every byte that was written to the terminal.
    pub written: Vec<u8>,
}

impl Session {
    /// Opens the UI in a terminal of that many columns and rows.
    pub fn open(arguments: &[&str], columns: u16, rows: u16) -> Self {
        Self::open_with(arguments, columns, rows, &[("COLORTERM", "truecolor")])
    }

    /// As [`Session::open`], with variables of the environment.
    pub fn open_with(
        arguments: &[&str],
        columns: u16,
        rows: u16,
        environment: &[(&str, &str)],
    ) -> Self {
        let size = PtySize {
            rows,
            cols: columns,
            pixel_width: 0,
            pixel_height: 0,
        };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_moim"));
        command.args(arguments);
        command.cwd(env!("CARGO_MANIFEST_DIR"));
        command.env("TERM", "xterm-256color");
        command.env("LANG", "C.UTF-8");
        command.env_remove("NO_COLOR");
        let cache = concat!(env!("CARGO_TARGET_TMPDIR"), "/cache");
        command.env("MOIM_CACHE_DIR", cache);
        for (name, value) in environment {
            command.env(name, value);
        }
        let child = pair.slave.spawn_command(command).unwrap();
        let mut reader = pair.master.try_clone_reader().unwrap();
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 16 * 1024];
            while let Ok(count) = reader.read(&mut bytes) {
                if count == 0 || sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let keyboard = pair.master.take_writer().unwrap();
        Self {
            keyboard,
            master: pair.master,
            child,
            output,
            parser: vt100::Parser::new(cells(rows), cells(columns), 0),
            written: Vec::new(),
        }
    }

    /// What the screen shows.
    pub fn screen(&self) -> String {
        self.parser.screen().contents()
    }

    /// Whether these bytes were sent to the terminal.
    pub fn has_written(&self, bytes: &str) -> bool {
        let wanted = bytes.as_bytes();
        self.written
            .windows(wanted.len())
            .any(|window| window == wanted)
    }

    /// Where the hardware cursor is, as (row, column); `None` while it is hidden.
    pub fn cursor(&self) -> Option<(u16, u16)> {
        let screen = self.parser.screen();
        (!screen.hide_cursor()).then(|| screen.cursor_position())
    }

    /// Whether the alternate screen is on.
    pub fn is_in_alternate_screen(&self) -> bool {
        self.parser.screen().alternate_screen()
    }

    /// Presses keys, as the bytes that a terminal sends.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    /// Presses Esc. A terminal sends the same byte at the start of other keys, so the next key must
    /// come a moment later, as a user's does.
    pub fn escape(&mut self) {
        self.press("\x1b");
        self.listen(Duration::from_millis(200));
    }

    /// Takes in output until the screen fulfils a condition.
    ///
    /// # Panics
    /// It does not within the patience, with what the screen shows.
    pub fn wait_until(&mut self, what: &str, is_so: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if is_so(&self.screen()) {
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.take_in(&bytes),
                Err(_) => panic!("waited for {what}; the screen shows\n{}", self.screen()),
            }
        }
    }

    /// Takes in output until the screen shows a text.
    pub fn wait_for(&mut self, text: &str) {
        self.wait_until(&format!("{text:?}"), |screen| screen.contains(text));
    }

    /// Reads output until the screen no longer shows a text.
    pub fn wait_until_gone(&mut self, text: &str) {
        self.wait_until(&format!("{text:?} to go"), |screen| !screen.contains(text));
    }

    /// Takes in what comes within a time; for proving that nothing does.
    pub fn listen(&mut self, time: Duration) -> usize {
        let deadline = Instant::now() + time;
        let before = self.written.len();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.take_in(&bytes),
                Err(_) => return self.written.len() - before,
            }
        }
    }

    fn take_in(&mut self, bytes: &[u8]) {
        self.parser.process(bytes);
        self.written.extend_from_slice(bytes);
    }

    /// Gives the terminal another size.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        let size = PtySize {
            rows,
            cols: columns,
            pixel_width: 0,
            pixel_height: 0,
        };
        self.master.resize(size).unwrap();
        self.parser
            .screen_mut()
            .set_size(cells(rows), cells(columns));
    }

    /// The program's process id.
    pub fn pid(&self) -> u32 {
        self.child.process_id().unwrap()
    }

    /// Waits for the program's end and answers its exit code.
    pub fn end(mut self) -> (u32, Self) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() < deadline => {
                    self.listen(Duration::from_millis(20));
                }
                None => panic!("moim does not end; the screen shows\n{}", self.screen()),
            }
        };
        // What is still in the pipe: how the terminal was left.
        while let Ok(bytes) = self.output.recv_timeout(Duration::from_secs(5)) {
            self.take_in(&bytes);
        }
        (status.exit_code(), self)
    }
}

fn cells(count: u16) -> NonZero<u16> {
    NonZero::new(count).unwrap()
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

/// A folder with experiments and outputs for one test, and the flags that lead there.
pub struct Place {
    pub folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("experiments")).unwrap();
        Self { folder }
    }

    pub fn experiments(&self) -> String {
        self.folder.path().join("experiments").display().to_string()
    }

    pub fn outputs(&self) -> String {
        self.folder.path().join("outputs").display().to_string()
    }

    /// A copy of the demo under another name, with changed values.
    pub fn add_demo(&self, name: &str, changes: &[(&str, &str)]) -> String {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/demo.toml");
        let text = std::fs::read_to_string(demo).unwrap();
        let mut document: toml_edit::DocumentMut = text.parse().unwrap();
        let outputs = format!("{:?}", self.outputs());
        let own = [("run.output_dir", outputs.as_str())];
        for (key, value) in own.iter().chain(changes) {
            let (section, key) = key.split_once('.').unwrap();
            document[section][key] = toml_edit::value(value.parse::<toml_edit::Value>().unwrap());
        }
        let path = self.folder.path().join(format!("experiments/{name}.toml"));
        std::fs::write(&path, document.to_string()).unwrap();
        path.display().to_string()
    }
}
