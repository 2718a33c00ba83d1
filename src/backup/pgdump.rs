//! PostgreSQL's archive format, as far as it takes to tell whether a dump is whole.
//!
//! A custom dump has no end mark: one that a full disk cut off between two tables still lists all of them, and
//! `pg_restore --list` is content with it. Here the data blocks are walked, and each table that the contents
//! promise must be there. Source of the format: `pg_backup_archiver.c` and `pg_backup_custom.c` of PostgreSQL 9.2
//! to 18 (archive versions 1.12 to 1.16).

use std::collections::BTreeMap;
use std::io::{self, Read};

use jiff::civil::DateTime;

use super::format::DumpFacts;

/// One entry of a table of contents that has data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) id: i64,
    /// `TABLE DATA goods`
    pub(super) name: String,
    /// True where the data is in COPY's format, which ends with `\\.`.
    pub(super) copy: bool,
    /// The file with the data; of directory and tar dumps only.
    pub(super) file: String,
}

impl Item {
    pub(super) fn is_table(&self) -> bool {
        self.name.starts_with("TABLE DATA")
    }

    /// True for large objects, whose file only lists their files.
    pub(super) fn is_blobs(&self) -> bool {
        self.name.starts_with("BLOBS")
    }
}

/// Why a walk ended early.
#[derive(Debug)]
pub(super) enum Fault {
    /// Reading failed inside this part.
    Io(io::Error, String),
    Truncated(String),
    Damaged(String),
    Unsupported(String),
}

const CUSTOM: u8 = 1;
/// Also what a directory dump's table of contents says of itself.
const TAR: u8 = 3;
const DIRECTORY: u8 = 5;
const NO_DATA: u8 = 3;
const DATA_BLOCK: u8 = 1;
const BLOBS_BLOCK: u8 = 3;
/// Newer than this the contents may be laid out otherwise; `pg_restore` of the right version will judge.
const NEWEST: (u8, u8) = (1, 16);
const OLDEST: (u8, u8) = (1, 12);
/// No name, statement or comment is longer.
const MAX_TEXT: u64 = 1 << 30;

struct Dump<R> {
    reader: R,
    integer: usize,
    offset: usize,
    version: (u8, u8),
    format: u8,
    /// What is being read, for errors.
    part: String,
}

/// Reads a custom dump to its end.
pub(super) fn walk(reader: impl Read) -> Result<DumpFacts, Fault> {
    let mut dump = Dump::new(reader);
    let mut facts = dump.header()?;
    if dump.format != CUSTOM {
        return Err(Fault::Unsupported(
            "it is the table of contents of a dump in directory or tar format; name its folder or the tar, or make the dump with `pg_dump -Fc`".to_owned(),
        ));
    }
    if dump.version > NEWEST {
        // Read to the end all the same: the compression around it must be whole.
        dump.skip_all()?;
        return Ok(facts);
    }
    let mut promised: BTreeMap<i64, String> = dump
        .contents()?
        .into_iter()
        .map(|item| (item.id, item.name))
        .collect();
    facts.tables = Some(
        promised
            .values()
            .filter(|name| name.starts_with("TABLE DATA"))
            .count() as u64,
    );
    while let Some((id, kind)) = dump.block(&promised)? {
        dump.skip_block(kind)?;
        if promised.remove(&id).is_none() {
            return Err(Fault::Damaged(format!(
                "it has data (number {id}) that its table of contents does not promise, or twice"
            )));
        }
        "after a block of data".clone_into(&mut dump.part);
    }
    match promised.values().next() {
        None => Ok(facts),
        Some(first) => Err(Fault::Truncated(format!(
            "{} of the data sets that its table of contents promises are missing, the first is `{first}`",
            promised.len()
        ))),
    }
}

/// Reads `toc.dat` of a directory or tar dump. `None` for the items where the version is newer than known.
pub(super) fn table_of_contents(
    reader: impl Read,
) -> Result<(DumpFacts, Option<Vec<Item>>), Fault> {
    let mut dump = Dump::new(reader);
    let mut facts = dump.header()?;
    if dump.format == CUSTOM {
        return Err(Fault::Damaged(
            "`toc.dat` is a dump in custom format".to_owned(),
        ));
    }
    if dump.version > NEWEST {
        return Ok((facts, None));
    }
    let items = dump.contents()?;
    let mut more = [0];
    if dump
        .reader
        .read(&mut more)
        .map_err(|error| dump.failed(error))?
        != 0
    {
        return Err(Fault::Damaged(
            "something follows the end of `toc.dat`".to_owned(),
        ));
    }
    facts.tables = Some(items.iter().filter(|item| item.is_table()).count() as u64);
    Ok((facts, Some(items)))
}

impl<R: Read> Dump<R> {
    fn new(reader: R) -> Self {
        Self {
            reader,
            integer: 4,
            offset: 8,
            version: (0, 0),
            format: CUSTOM,
            part: "in its header".to_owned(),
        }
    }

    fn header(&mut self) -> Result<DumpFacts, Fault> {
        let mut magic = [0; 5];
        self.exact(&mut magic)?;
        self.version = (self.byte()?, self.byte()?);
        let _revision = self.byte()?;
        if self.version < OLDEST {
            let (major, minor) = self.version;
            return Err(Fault::Unsupported(format!(
                "it is a dump of archive version {major}.{minor}, older than PostgreSQL 9.2 writes"
            )));
        }
        self.integer = usize::from(self.byte()?);
        self.offset = usize::from(self.byte()?);
        if !matches!(self.integer, 1..=8) || !matches!(self.offset, 1..=16) {
            return Err(Fault::Damaged(
                "its header gives impossible sizes of numbers".to_owned(),
            ));
        }
        self.format = self.byte()?;
        if !matches!(self.format, CUSTOM | TAR | DIRECTORY) {
            return Err(Fault::Damaged(format!(
                "its header gives the unknown format {}",
                self.format
            )));
        }
        // From archive version 1.15 on the algorithm, of which 1 is gzip; before it gzip's level, -1 for its default.
        let checksummed = if self.version >= (1, 15) {
            self.byte()? == 1
        } else {
            self.number()? != 0
        };
        let mut clock = [0; 7];
        for field in &mut clock {
            *field = self.number()?;
        }
        let [second, minute, hour, day, month, year, _daylight] = clock;
        let field = |value: i64| i8::try_from(value).ok();
        let made_local = (|| {
            let year = i16::try_from(year.checked_add(1900)?).ok()?;
            let month = field(month.checked_add(1)?)?;
            DateTime::new(
                year,
                month,
                field(day)?,
                field(hour)?,
                field(minute)?,
                field(second)?.min(59),
                0,
            )
            .ok()
        })();
        Ok(DumpFacts {
            checksummed,
            made_local,
            database: self.text()?,
            server_version: self.text()?,
            tool_version: self.text()?,
            tables: None,
        })
    }

    /// The entries that have data.
    fn contents(&mut self) -> Result<Vec<Item>, Fault> {
        "in its table of contents".clone_into(&mut self.part);
        let mut promised = Vec::new();
        let count = self.number()?;
        for _ in 0..count {
            let id = self.number()?;
            self.number()?; // whether it had a dumper
            self.skip_text()?; // catalogue oid
            self.skip_text()?; // oid
            let tag = self.text()?.unwrap_or_default();
            let description = self.text()?.unwrap_or_default();
            self.number()?; // section
            self.skip_text()?; // definition
            self.skip_text()?; // drop statement
            let copy = self.text()?.is_some_and(|statement| !statement.is_empty());
            self.skip_text()?; // schema
            self.skip_text()?; // tablespace
            if self.version >= (1, 14) {
                self.skip_text()?; // table access method
            }
            if self.version >= (1, 16) {
                self.number()?; // kind of relation
            }
            self.skip_text()?; // owner
            self.skip_text()?; // with oids
            while self.skip_text()? {} // dependencies
            let name = format!("{description} {tag}");
            if self.format != CUSTOM {
                let file = self.text()?.unwrap_or_default();
                if !file.is_empty() {
                    promised.push(Item {
                        id,
                        name,
                        copy,
                        file,
                    });
                }
                continue;
            }
            let state = self.byte()?;
            self.skip(self.offset as u64)?;
            if state == 0 || state > NO_DATA {
                return Err(Fault::Damaged(format!(
                    "its table of contents is damaged at `{name}`"
                )));
            }
            if state != NO_DATA {
                promised.push(Item {
                    id,
                    name,
                    copy,
                    file: String::new(),
                });
            }
        }
        Ok(promised)
    }

    /// The next block's number and kind; `None` at the end.
    fn block(&mut self, promised: &BTreeMap<i64, String>) -> Result<Option<(i64, u8)>, Fault> {
        let mut kind = [0];
        loop {
            match self.reader.read(&mut kind) {
                Ok(0) => return Ok(None),
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        let id = self.number()?;
        self.part = match promised.get(&id) {
            Some(name) => format!("in the data of `{name}`"),
            None => format!("in a block of data with the number {id}"),
        };
        Ok(Some((id, kind[0])))
    }

    fn skip_block(&mut self, kind: u8) -> Result<(), Fault> {
        match kind {
            DATA_BLOCK => self.skip_chunks(),
            BLOBS_BLOCK => {
                while self.number()? != 0 {
                    self.skip_chunks()?;
                }
                Ok(())
            }
            other => Err(Fault::Damaged(format!(
                "it has a block of the unknown kind {other}, {}",
                self.part
            ))),
        }
    }

    fn skip_chunks(&mut self) -> Result<(), Fault> {
        loop {
            match self.number()? {
                0 => return Ok(()),
                length => {
                    let length = u64::try_from(length).map_err(|_| {
                        Fault::Damaged(format!("it has a chunk of negative length {}", self.part))
                    })?;
                    self.skip(length)?;
                }
            }
        }
    }

    fn failed(&self, error: io::Error) -> Fault {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Fault::Truncated(format!("it ends {}", self.part));
        }
        Fault::Io(error, self.part.clone())
    }

    fn exact(&mut self, buffer: &mut [u8]) -> Result<(), Fault> {
        self.reader
            .read_exact(buffer)
            .map_err(|error| self.failed(error))
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        let mut byte = [0];
        self.exact(&mut byte)?;
        Ok(byte[0])
    }

    /// A sign byte, then the number, least byte first.
    fn number(&mut self) -> Result<i64, Fault> {
        let negative = self.byte()? != 0;
        let mut bytes = [0; 8];
        let integer = self.integer;
        self.exact(&mut bytes[..integer])?;
        let value = i64::from_le_bytes(bytes).checked_abs().unwrap_or(i64::MAX);
        Ok(if negative { -value } else { value })
    }

    fn text(&mut self) -> Result<Option<String>, Fault> {
        let Ok(length) = u64::try_from(self.number()?) else {
            return Ok(None);
        };
        self.judge_length(length)?;
        let mut bytes = Vec::new();
        (&mut self.reader)
            .take(length)
            .read_to_end(&mut bytes)
            .map_err(|error| self.failed(error))?;
        if (bytes.len() as u64) < length {
            return Err(self.failed(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// False for a text that is not there, which also ends a list.
    fn skip_text(&mut self) -> Result<bool, Fault> {
        let Ok(length) = u64::try_from(self.number()?) else {
            return Ok(false);
        };
        self.judge_length(length)?;
        self.skip(length)?;
        Ok(true)
    }

    fn judge_length(&self, length: u64) -> Result<(), Fault> {
        if length > MAX_TEXT {
            return Err(Fault::Damaged(format!(
                "it claims a text of {length} bytes {}",
                self.part
            )));
        }
        Ok(())
    }

    fn skip(&mut self, length: u64) -> Result<(), Fault> {
        let skipped = io::copy(&mut (&mut self.reader).take(length), &mut io::sink())
            .map_err(|error| self.failed(error))?;
        if skipped < length {
            return Err(self.failed(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }

    fn skip_all(&mut self) -> Result<(), Fault> {
        io::copy(&mut self.reader, &mut io::sink())
            .map(|_| ())
            .map_err(|error| self.failed(error))
    }
}
