//! The messages between server and worker.
//!
//! Each is one packet of a private `SOCK_SEQPACKET` pair: a byte for its kind, then fixed fields in
//! little-endian order; texts and lists stand behind their length. Nothing of it is code or an
//! object that the other side builds by name. What a worker sends is not trusted: every length is
//! checked, and what is left over is an error. Tensors do not travel here, only where they lie.

use salver_core::{DataType, Dim, Error, PythonTensor, Result, Shape, TensorSpec};

/// The longest packet; the system's default socket buffer holds one of this size.
pub(crate) const MAX_PACKET: usize = 160 << 10;
/// The most inputs, and the most outputs.
const MAX_TENSORS: usize = 256;
const MAX_NAME: usize = 128;
/// Of a text, such as a traceback, this much is kept.
const MAX_TEXT: usize = 8 << 10;
/// What stands for BYTES that are `str` in Python; other types are their place in
/// [`DataType::ALL`].
const TEXT: u8 = DataType::ALL.len() as u8;

/// What the server says.
pub(crate) enum ToWorker<'a> {
    /// What to load. Comes first, and once.
    Setup(Setup<'a>),
    /// How answers are handed over; follows on [`FromWorker::Ready`].
    Mode {
        /// Whether the server reads them where they are.
        is_direct: bool,
    },
    /// Memory for inputs from now on; its descriptor comes with the packet.
    Input {
        /// Its bytes.
        len: u64,
    },
    /// Memory for answers from now on; its descriptor comes with the packet.
    Output {
        /// Its bytes.
        len: u64,
    },
    /// After [`FromWorker::Answer`] of a generator: asks for the next one.
    Next {
        /// Of the batch.
        number: u64,
    },
    /// After [`FromWorker::Answer`] of a generator: no more are wanted.
    Stop {
        /// Of the batch.
        number: u64,
    },
    /// A batch.
    Run {
        /// Counts the runs of this worker; the answer repeats it.
        number: u64,
        /// Its inputs.
        inputs: &'a [Placed],
    },
}

/// What a worker has to know before it loads anything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup<'a> {
    pub(crate) server_pid: u32,
    pub(crate) model: &'a str,
    pub(crate) version: u64,
    pub(crate) folder: &'a str,
    pub(crate) artifact: &'a str,
    pub(crate) device: &'a str,
    pub(crate) threads: u32,
    /// The name of the class; empty: the only one.
    pub(crate) class: &'a str,
    /// The source of an adapter; empty: there is none.
    pub(crate) adapter: &'a str,
    /// The most bytes of data segment; 0: any.
    pub(crate) data_limit: u64,
    pub(crate) settings: &'a [(&'a str, &'a str)],
    pub(crate) inputs: &'a [PythonTensor],
    pub(crate) outputs: &'a [PythonTensor],
}

/// An input of a batch, and where it lies in the memory for inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Its place in the signature.
    pub(crate) idx: usize,
    pub(crate) shape: Shape,
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

/// What a worker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FromWorker {
    /// The model is loaded.
    Ready {
        /// What it takes.
        inputs: Vec<TensorSpec>,
        /// What it gives.
        outputs: Vec<TensorSpec>,
        /// Where eight known bytes lie in the worker's memory.
        probe: u64,
        /// Whether it gives its answers one by one.
        is_decoupled: bool,
    },
    /// The model does not load.
    Failed(String),
    /// The answer to a batch.
    Answer {
        /// Of the batch.
        number: u64,
        /// In the signature's order.
        outputs: Vec<Located>,
    },
    /// A batch failed; the worker goes on.
    Fault {
        /// Of the batch.
        number: u64,
        /// Whether the data is at fault.
        is_input: bool,
        /// Says why.
        text: String,
    },
    /// A generator has no more answers.
    End {
        /// Of the batch.
        number: u64,
    },
    /// Asks for memory for an answer.
    Room {
        /// Of the batch.
        number: u64,
        /// How much.
        len: u64,
    },
}

/// An output, and where it lies: in the worker's own memory, or from the beginning of the memory
/// for answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located {
    pub(crate) dtype: DataType,
    pub(crate) shape: Shape,
    pub(crate) address: u64,
    pub(crate) len: u64,
}

impl ToWorker<'_> {
    /// Writes the packet.
    ///
    /// # Errors
    /// `InvalidInput` where it is too long.
    pub(crate) fn encode(&self, packet: &mut Vec<u8>) -> Result<()> {
        packet.clear();
        match self {
            Self::Setup(setup) => {
                packet.push(1);
                setup.encode(packet);
            }
            Self::Mode { is_direct } => packet.extend([2, u8::from(*is_direct)]),
            Self::Input { len } => {
                packet.push(3);
                packet.extend(len.to_le_bytes());
            }
            Self::Output { len } => {
                packet.push(4);
                packet.extend(len.to_le_bytes());
            }
            Self::Next { number } => {
                packet.push(6);
                packet.extend(number.to_le_bytes());
            }
            Self::Stop { number } => {
                packet.push(7);
                packet.extend(number.to_le_bytes());
            }
            Self::Run { number, inputs } => {
                packet.push(5);
                packet.extend(number.to_le_bytes());
                put_count(packet, inputs.len());
                inputs.iter().for_each(|input| input.encode(packet));
            }
        }
        match packet.len() {
            len if len <= MAX_PACKET => Ok(()),
            len => Err(Error::invalid_input(format!("a message to the worker takes {len} of {MAX_PACKET} bytes"))),
        }
    }
}

impl Setup<'_> {
    fn encode(&self, packet: &mut Vec<u8>) {
        packet.extend(self.server_pid.to_le_bytes());
        packet.extend(self.version.to_le_bytes());
        packet.extend(self.threads.to_le_bytes());
        packet.extend(self.data_limit.to_le_bytes());
        for text in [self.model, self.folder, self.artifact, self.device, self.class, self.adapter] {
            put_text(packet, text);
        }
        put_count(packet, self.settings.len());
        self.settings.iter().flat_map(|&(key, value)| [key, value]).for_each(|text| put_text(packet, text));
        for tensors in [self.inputs, self.outputs] {
            put_count(packet, tensors.len());
            for PythonTensor { spec, is_text } in tensors {
                put_text(packet, &spec.name);
                packet.push(if *is_text { TEXT } else { code(spec.dtype) });
                packet.push(u8::from(spec.optional));
                packet.push(spec.shape.len() as u8);
                spec.shape.iter().for_each(|dim| packet.extend(dim.to_wire().to_le_bytes()));
            }
        }
    }
}

impl Placed {
    fn encode(&self, packet: &mut Vec<u8>) {
        put_count(packet, self.idx);
        // Shapes have at most 64 dimensions.
        packet.push(self.shape.len() as u8);
        let extents = self.shape.iter().copied();
        [self.offset, self.len]
            .into_iter()
            .chain(extents)
            .for_each(|number| packet.extend((number as u64).to_le_bytes()));
    }
}

fn put_count(packet: &mut Vec<u8>, count: usize) {
    packet.extend(u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes());
}

fn put_text(packet: &mut Vec<u8>, text: &str) {
    // Longer than a packet is refused as a whole.
    packet.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    packet.extend_from_slice(text.as_bytes());
}

fn code(dtype: DataType) -> u8 {
    DataType::ALL.iter().position(|known| *known == dtype).unwrap_or_default() as u8
}

impl FromWorker {
    /// Reads a packet.
    ///
    /// # Errors
    /// `Engine` for anything that a worker does not say.
    pub(crate) fn decode(packet: &[u8]) -> Result<Self> {
        let mut fields = Fields(packet);
        let message = Self::read(&mut fields)?;
        match fields.0 {
            [] => Ok(message),
            rest => Err(nonsense(format_args!("{} bytes too many", rest.len()))),
        }
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self> {
        Ok(match fields.u8()? {
            1 => Self::Ready {
                inputs: fields.specs()?,
                outputs: fields.specs()?,
                probe: fields.u64()?,
                is_decoupled: fields.flag()?,
            },
            2 => Self::Failed(fields.text(MAX_TEXT)?),
            3 => Self::Answer { number: fields.u64()?, outputs: fields.list(Fields::located)? },
            4 => Self::Fault { number: fields.u64()?, is_input: fields.flag()?, text: fields.text(MAX_TEXT)? },
            5 => Self::Room { number: fields.u64()?, len: fields.u64()? },
            6 => Self::End { number: fields.u64()? },
            kind => return Err(nonsense(format_args!("kind {kind}"))),
        })
    }
}

/// What is left of a packet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) =
            self.0.split_at_checked(len).ok_or_else(|| nonsense(format_args!("{len} bytes are missing")))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn flag(&mut self) -> Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(nonsense(format_args!("flag {other}"))),
        }
    }

    /// Reads text for people: what is not UTF-8 or would control a terminal is replaced.
    fn text(&mut self, max: usize) -> Result<String> {
        let len = u32::from_le_bytes(self.array()?) as usize;
        let bytes = self.take(len)?;
        let text = String::from_utf8_lossy(&bytes[..len.min(max)]);
        let shown = |letter: char| if letter.is_control() && letter != '\n' { ' ' } else { letter };
        Ok(text.chars().map(shown).collect())
    }

    fn name(&mut self) -> Result<String> {
        let name = self.text(MAX_PACKET)?;
        match name.len() {
            1..=MAX_NAME => Ok(name),
            len => Err(nonsense(format_args!("a name of {len} bytes"))),
        }
    }

    fn list<T>(&mut self, read: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        match usize::from(u16::from_le_bytes(self.array()?)) {
            count if count <= MAX_TENSORS => (0..count).map(|_| read(self)).collect(),
            count => Err(nonsense(format_args!("{count} tensors"))),
        }
    }

    fn dtype(&mut self) -> Result<DataType> {
        let code = self.u8()?;
        let known = DataType::ALL.get(usize::from(code)).copied().or((code == TEXT).then_some(DataType::Bytes));
        known.ok_or_else(|| nonsense(format_args!("type {code}")))
    }

    fn rank(&mut self) -> Result<usize> {
        match usize::from(self.u8()?) {
            rank if rank <= Shape::MAX_RANK => Ok(rank),
            rank => Err(nonsense(format_args!("{rank} dimensions"))),
        }
    }

    fn specs(&mut self) -> Result<Vec<TensorSpec>> {
        self.list(|fields| {
            let (name, dtype, optional) = (fields.name()?, fields.dtype()?, fields.flag()?);
            let dim = |fields: &mut Self| {
                let extent = i64::from_le_bytes(fields.array()?);
                Dim::from_wire(extent).ok_or_else(|| nonsense(format_args!("extent {extent}")))
            };
            let shape = (0..fields.rank()?).map(|_| dim(fields)).collect::<Result<_>>()?;
            Ok(TensorSpec { name: name.into(), dtype, shape, optional })
        })
    }

    fn located(&mut self) -> Result<Located> {
        let (dtype, rank, address, len) = (self.dtype()?, self.rank()?, self.u64()?, self.u64()?);
        let extent = |fields: &mut Self| {
            let extent = fields.u64()?;
            usize::try_from(extent).map_err(|_| nonsense(format_args!("extent {extent}")))
        };
        let shape = (0..rank).map(|_| extent(self)).collect::<Result<Shape>>()?;
        Ok(Located { dtype, shape, address, len })
    }
}

/// Says that a worker does not keep to the protocol.
pub(crate) fn nonsense(what: std::fmt::Arguments<'_>) -> Error {
    Error::engine(format!("the worker sent a message that makes no sense: {what}"))
}

#[cfg(test)]
mod tests;
