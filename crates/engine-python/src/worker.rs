//! One worker: its process, its socket, its memory, and the conversation with it.

use std::io::{IoSlice, IoSliceMut};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::{
    AddressFamily, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType,
};
use salver_core::{Error, ErrorKind, Interrupt, Result, Tensor, TensorSpec};

use crate::answer::{self, Source};
use crate::memory::{Region, read_process};
use crate::output::{self, Tail};
use crate::process::{self, Process, Processes};
use crate::wire::{FromWorker, MAX_PACKET, Placed, Setup, ToWorker, nonsense};

/// The program that a worker runs; it comes over its socket, so nothing of it lies in a file.
const PROGRAM: &str = include_str!("../python/worker.py");
/// Takes the socket away from standard input and runs what comes first through it.
const BOOT: &str = "import os,socket;s=socket.socket(fileno=os.dup(0));n=os.open(os.devnull,os.O_RDWR);\
    os.dup2(n,0);os.close(n);exec(compile(s.recv(1<<18).decode(),'<salver worker>','exec'))";
/// What the program says that it has in its memory.
pub(crate) const PROBE: &[u8; 8] = b"salver:)";
/// How often the memory of a busy worker is looked at.
const TICK: Duration = Duration::from_millis(100);
/// How long a worker that is not needed any more may take to end by itself.
const FAREWELL: Duration = Duration::from_millis(500);
/// The most memory for answers that a worker may ask for.
const MAX_ROOM: u64 = 4 << 30;

/// How a worker is started.
pub(crate) struct Launch<'a> {
    pub(crate) processes: &'a Processes,
    pub(crate) model: Arc<str>,
    /// The interpreter, its directory and variables.
    pub(crate) command: Command,
    pub(crate) setup: Setup<'a>,
    /// The core that the worker stays on; none: any.
    pub(crate) core: Option<usize>,
    pub(crate) timeout: Duration,
    pub(crate) memory_limit: Option<u64>,
    /// Whether the memory of the worker may be read directly, if the system allows it.
    pub(crate) may_be_direct: bool,
    /// Set when the worker is not wanted any more.
    pub(crate) is_closed: &'a AtomicBool,
}

/// What a started worker says of its model.
pub(crate) struct Declared {
    pub(crate) inputs: Vec<TensorSpec>,
    pub(crate) outputs: Vec<TensorSpec>,
    pub(crate) is_decoupled: bool,
}

/// See the module's description. Dropped, it ends the process.
pub(crate) struct Worker {
    process: Process,
    socket: OwnedFd,
    output: Tail,
    reader: Option<JoinHandle<()>>,
    memory_limit: Option<u64>,
    is_direct: bool,
    inputs: Option<Region>,
    answers: Option<Region>,
    number: u64,
    running: Arc<AtomicBool>,
    /// Set where nothing more can be expected of it.
    is_over: bool,
    packet: Vec<u8>,
}

/// What came while the server waited.
enum Event {
    Said(FromWorker),
    /// Nothing yet.
    Tick,
}

impl Worker {
    /// Starts a worker and waits until its model is loaded.
    ///
    /// # Errors
    /// `Unsupported` without an interpreter, `InvalidInput` where the model's code fails, with the
    /// end of its traceback; `Engine` where the worker ends before the model is loaded.
    pub(crate) fn start(launch: Launch<'_>) -> Result<(Self, Declared)> {
        let Launch { processes, model, mut command, setup, core, timeout, memory_limit, may_be_direct, is_closed } =
            launch;
        let started = Instant::now();
        let no_room = |error| Error::new(ErrorKind::Full, "no descriptors left for another worker").with_source(error);
        let (socket, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|error| no_room(error.into()))?;
        let (printed, printer) = std::io::pipe().map_err(no_room)?;
        let also_printer = printer.try_clone().map_err(no_room)?;
        command.args(["-u", "-B", "-c", BOOT, "salver-worker", &model]);
        command.stdin(Stdio::from(theirs)).stdout(printer).stderr(also_printer);
        // The command is gone when this returns, and with it this side's copies of what the worker holds.
        let process = processes.start(command)?;
        process.stay_on(core);
        let (output, reader) =
            output::follow(model, process.id(), printed.into(), process.handle().clone()).map_err(no_room)?;
        let mut worker = Self {
            process,
            socket,
            output,
            reader: Some(reader),
            memory_limit,
            is_direct: may_be_direct,
            inputs: None,
            answers: None,
            number: 0,
            running: Arc::default(),
            is_over: false,
            packet: Vec::with_capacity(MAX_PACKET),
        };
        let declared = worker.introduce(setup, started + timeout, is_closed).inspect_err(|_| worker.is_over = true)?;
        Ok((worker, declared))
    }

    fn introduce(&mut self, setup: Setup<'_>, deadline: Instant, is_closed: &AtomicBool) -> Result<Declared> {
        // A worker that does not even read ends below, with its last words.
        let _ = self.send_bytes(PROGRAM.as_bytes(), None).and_then(|()| self.send(&ToWorker::Setup(setup), None));
        let message = loop {
            match self.wait()? {
                Event::Said(message) => break message,
                Event::Tick if is_closed.load(Ordering::Relaxed) => {
                    return Err(Error::not_ready("the model is being unloaded"));
                }
                Event::Tick if Instant::now() < deadline => {}
                Event::Tick => {
                    let limit = "raise start_timeout_s in [python] if it needs longer";
                    return Err(Error::engine(self.with_output(&format!("it was not loaded in time; {limit}"))));
                }
            }
        };
        let (inputs, outputs, probe, is_decoupled) = match message {
            FromWorker::Ready { inputs, outputs, probe, is_decoupled } => (inputs, outputs, probe, is_decoupled),
            FromWorker::Failed(text) => return Err(Error::invalid_input(text)),
            _ => return Err(nonsense(format_args!("it is not loaded yet"))),
        };
        self.is_direct &= read_process(self.process.id(), probe, PROBE.len()).is_ok_and(|read| read == PROBE);
        self.send(&ToWorker::Mode { is_direct: self.is_direct }, None)?;
        Ok(Declared { inputs, outputs, is_decoupled })
    }

    /// Returns memory for inputs that the worker reads too, all written anew by the caller.
    ///
    /// # Errors
    /// `Full` where there is none.
    pub(crate) fn input_buffer(&mut self, len: usize) -> Result<&mut [u8]> {
        if self.inputs.as_ref().is_none_or(|region| region.len() < len) {
            let region = Region::new(len)?;
            // Where that fails the worker has ended, which the run will notice.
            let _ = self.send(&ToWorker::Input { len: region.len() as u64 }, Some(region.as_fd()));
            self.inputs = Some(region);
        }
        match &mut self.inputs {
            Some(region) => Ok(region.writable(len)),
            None => Ok(&mut []),
        }
    }

    /// Runs a batch whose inputs lie in the memory for inputs.
    ///
    /// # Errors
    /// `InvalidInput` where the worker says that the data is at fault, `Engine` where it failed on
    /// it, `NotReady` where it ended or cannot be used any more.
    pub(crate) fn run(&mut self, inputs: &[Placed], specs: &[TensorSpec]) -> Result<Vec<Tensor>> {
        self.running(|worker| {
            worker.begin(inputs)?;
            match worker.next_answer(specs)? {
                Some(outputs) => Ok(outputs),
                None => Err(worker.makes_no_sense("it gave no answer to this batch")),
            }
        })
    }

    /// Runs one request on a generator, and hands out what it gives until it ends or is told to. The
    /// worker rests while an answer is handed out.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(crate) fn run_stream(
        &mut self,
        inputs: &[Placed],
        specs: &[TensorSpec],
        hand_out: &mut dyn FnMut(Vec<Tensor>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.running(|worker| {
            worker.begin(inputs)?;
            while let Some(outputs) = worker.next_answer(specs)? {
                if hand_out(outputs).is_break() {
                    return worker.stop(specs);
                }
                let number = worker.number;
                worker.say(&ToWorker::Next { number })?;
            }
            Ok(())
        })
    }

    /// Ends a generator, which then may clean up.
    fn stop(&mut self, specs: &[TensorSpec]) -> Result<()> {
        let number = self.number;
        self.say(&ToWorker::Stop { number })?;
        match self.next_answer(specs)? {
            None => Ok(()),
            Some(_) => Err(self.makes_no_sense("it goes on")),
        }
    }

    /// Sends a message; one that cannot be sent is the worker's end.
    fn say(&mut self, message: &ToWorker<'_>) -> Result<()> {
        self.send(message, None).map_err(|_| self.over("while it ran"))
    }

    fn makes_no_sense(&mut self, what: &str) -> Error {
        self.is_over = true;
        nonsense(format_args!("{what}"))
    }

    fn running<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.number += 1;
        self.running.store(true, Ordering::SeqCst);
        let result = run(self);
        self.running.store(false, Ordering::SeqCst);
        result.map_err(|error| match error.kind() {
            // Whatever it was, another worker may do better.
            ErrorKind::Engine | ErrorKind::Full if self.is_over => {
                Error::not_ready(error.message().to_owned()).with_retry_after(Duration::from_secs(1))
            }
            _ => error,
        })
    }

    fn begin(&mut self, inputs: &[Placed]) -> Result<()> {
        let number = self.number;
        match self.send(&ToWorker::Run { number, inputs }, None) {
            Err(error) if error.kind() == ErrorKind::InvalidInput => Err(error),
            Err(_) => Err(self.over("while a batch was handed to it")),
            Ok(()) => Ok(()),
        }
    }

    /// Waits for an answer; none: a generator has no more.
    fn next_answer(&mut self, specs: &[TensorSpec]) -> Result<Option<Vec<Tensor>>> {
        let number = self.number;
        loop {
            let message = match self.wait() {
                Ok(Event::Said(message)) => message,
                Ok(Event::Tick) => continue,
                Err(error) => {
                    self.is_over = true;
                    return Err(error);
                }
            };
            match message {
                FromWorker::Answer { number: of, outputs } if of == number => {
                    let source = match &self.answers {
                        Some(region) if !self.is_direct => Source::Region(region),
                        _ => Source::Process(self.process.id()),
                    };
                    return match answer::take(specs, outputs, &source) {
                        Err(error) if error.kind() == ErrorKind::NotReady => {
                            Err(self.over("while its answer was read").with_source(error))
                        }
                        result => result.map(Some),
                    };
                }
                FromWorker::Fault { number: of, is_input, text } if of == number => {
                    return Err(if is_input { Error::invalid_input(text) } else { Error::engine(text) });
                }
                FromWorker::End { number: of } if of == number => return Ok(None),
                FromWorker::Room { number: of, len } if of == number && !self.is_direct => self.make_room(len)?,
                _ => {
                    self.is_over = true;
                    return Err(nonsense(format_args!("it is no answer to this batch")));
                }
            }
        }
    }

    fn make_room(&mut self, len: u64) -> Result<()> {
        let region = match usize::try_from(len).ok().filter(|_| len <= MAX_ROOM) {
            Some(len) => Region::new(len),
            None => Err(Error::engine(format!("an answer of {len} bytes is more than one may have"))),
        };
        let region = region.inspect_err(|_| self.is_over = true)?;
        match self.send(&ToWorker::Output { len: region.len() as u64 }, Some(region.as_fd())) {
            Err(_) => Err(self.over("while its answer was read")),
            Ok(()) => {
                self.answers = Some(region);
                Ok(())
            }
        }
    }

    /// Waits for a packet or the end of the process, for a tick at most.
    fn wait(&mut self) -> Result<Event> {
        let [has_packet, has_ended] = process::wait_for([self.socket.as_fd(), self.process.handle().as_fd()], TICK);
        if has_packet {
            // The last words of a process that has ended come first.
            return self.receive().map(Event::Said);
        }
        if has_ended {
            return Err(self.over("while it ran"));
        }
        match self.excess() {
            None => Ok(Event::Tick),
            Some(excess) => {
                self.process.end(Duration::ZERO);
                self.is_over = true;
                Err(Error::not_ready(excess).with_retry_after(Duration::from_secs(1)))
            }
        }
    }

    fn receive(&mut self) -> Result<FromWorker> {
        self.packet.resize(MAX_PACKET, 0);
        let mut nothing = rustix::net::RecvAncillaryBuffer::default();
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        let mut into = [IoSliceMut::new(&mut self.packet)];
        match rustix::net::recvmsg(&self.socket, &mut into, &mut nothing, flags) {
            Ok(message) if message.bytes == 0 => Err(self.over("while it ran")),
            Ok(message) if message.flags.contains(ReturnFlags::TRUNC) || message.bytes > MAX_PACKET => {
                self.is_over = true;
                Err(nonsense(format_args!("{} bytes", message.bytes)))
            }
            Ok(message) => FromWorker::decode(&self.packet[..message.bytes]).inspect_err(|_| self.is_over = true),
            Err(_) => Err(self.over("while it ran")),
        }
    }

    fn send(&mut self, message: &ToWorker<'_>, file: Option<BorrowedFd<'_>>) -> Result<()> {
        let mut packet = std::mem::take(&mut self.packet);
        let sent = message.encode(&mut packet).and_then(|()| self.send_bytes(&packet, file));
        self.packet = packet;
        sent
    }

    fn send_bytes(&self, packet: &[u8], file: Option<BorrowedFd<'_>>) -> Result<()> {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut with_it = SendAncillaryBuffer::new(&mut space);
        let files: Vec<BorrowedFd<'_>> = file.into_iter().collect();
        if !files.is_empty() {
            with_it.push(SendAncillaryMessage::ScmRights(&files));
        }
        // Never waits: what is not read yet fits, unless the worker has stopped reading.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match rustix::net::sendmsg(&self.socket, &[IoSlice::new(packet)], &mut with_it, flags) {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::engine("the worker does not listen").with_source(error)),
        }
    }

    /// Says that the worker holds too much memory, if it does.
    fn excess(&self) -> Option<String> {
        let (limit, held) = (self.memory_limit?, self.process.resident_bytes()?);
        (held > limit).then(|| {
            let (held, limit) = (held >> 20, limit >> 20);
            format!("its worker held {held} MiB, more than memory_limit_mb = {limit}, and was ended")
        })
    }

    /// Ends the worker and says how it ended.
    fn over(&mut self, when: &str) -> Error {
        self.is_over = true;
        // A process that has closed its socket is about to end.
        let ending = process::ending(self.process.end(FAREWELL));
        let is_starting = self.number == 0;
        self.finish_reading();
        if is_starting {
            return Error::engine(self.with_output(&format!("its worker {ending} before the model was loaded")));
        }
        Error::not_ready(format!("its worker {ending} {when}; another one is started"))
            .with_retry_after(Duration::from_secs(1))
    }

    fn with_output(&self, what: &str) -> String {
        match self.output.text() {
            text if text.is_empty() => what.to_owned(),
            text => format!("{what}; it printed last:\n{text}"),
        }
    }

    fn finish_reading(&mut self) {
        if let Some(reader) = self.reader.take() {
            // It ends with the process; a panic of it is logged by the hook.
            let _ = reader.join();
        }
    }

    /// Whether the worker can take a batch; ends one that holds too much memory.
    pub(crate) fn is_sound(&mut self) -> bool {
        if let Some(excess) = self.excess() {
            tracing::warn!(worker = self.process.id(), "{excess}");
            self.is_over = true;
        }
        !self.is_over && !self.process.has_ended()
    }

    /// Returns what ends a run in progress.
    pub(crate) fn interrupt(&self) -> Interrupt {
        let (running, handle) = (self.running.clone(), self.process.handle().clone());
        Arc::new(move || {
            if running.load(Ordering::SeqCst) {
                process::kill(&handle);
            }
        })
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        self.process.resident_bytes().unwrap_or_default()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.is_over {
            // An idle worker ends when nobody talks to it any more.
            let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
            self.process.end(FAREWELL);
        }
        self.process.end(Duration::ZERO);
        self.finish_reading();
    }
}
