//! PAX extended headers. The tar crate splits them at line ends, which breaks binary attributes, and reads them
//! without a limit; so they are read here.

use super::Mtime;

/// What a header says about the entry after it; a global one about all entries after it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Mtime>,
    pub(super) xattrs: Vec<(String, Vec<u8>)>,
}

/// Why a header is not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Damaged(&'static str),
    /// Says a thing twice, differently; readers would disagree on what the archive holds.
    Ambiguous(&'static str),
    Unsupported(&'static str),
}

impl Pax {
    /// Reads the records of one header.
    pub(super) fn parse(data: &[u8], global: bool) -> Result<Self, Fault> {
        let mut pax = Self::default();
        let mut rest = data;
        while !rest.is_empty() {
            let (key, value, after) =
                record(rest).ok_or(Fault::Damaged("a PAX header is malformed"))?;
            rest = after;
            pax.set(key, value, global)?;
        }
        Ok(pax)
    }

    fn set(&mut self, key: &[u8], value: &[u8], global: bool) -> Result<(), Fault> {
        let number = || {
            std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse::<u64>().ok())
                .ok_or(Fault::Damaged("a PAX header has a number that is none"))
        };
        // An empty value takes a record back.
        let given = !value.is_empty();
        match key {
            b"path" | b"linkpath" | b"size" if global => {
                return Err(Fault::Ambiguous(
                    "a global PAX header sets a path, a link or a size for every entry",
                ));
            }
            b"path" => once(&mut self.path, given.then(|| value.to_vec()))?,
            b"linkpath" => once(&mut self.linkpath, given.then(|| value.to_vec()))?,
            b"size" => once(&mut self.size, if given { Some(number()?) } else { None })?,
            b"uid" if given => self.uid = Some(number()?),
            b"gid" if given => self.gid = Some(number()?),
            b"mtime" if given => {
                self.mtime = Some(
                    time(value).ok_or(Fault::Damaged("a PAX header has a time that is none"))?,
                );
            }
            _ => {
                if key.starts_with(b"GNU.sparse.") {
                    return Err(Fault::Unsupported(
                        "it stores sparse files in PAX form, which is not supported yet",
                    ));
                }
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    let name = String::from_utf8(name.to_vec()).map_err(|_| {
                        Fault::Damaged("a PAX header has an attribute whose name is not UTF-8")
                    })?;
                    self.xattrs.push((name, value.to_vec()));
                }
                // Others (access times, user names, comments) have no effect on what is unpacked.
            }
        }
        Ok(())
    }

    /// What holds for one entry: its own header, then the global one.
    pub(super) fn or(self, global: &Self) -> Self {
        let mut xattrs = self.xattrs;
        if xattrs.is_empty() {
            xattrs.clone_from(&global.xattrs);
        }
        Self {
            path: self.path,
            linkpath: self.linkpath,
            size: self.size,
            uid: self.uid.or(global.uid),
            gid: self.gid.or(global.gid),
            mtime: self.mtime.or(global.mtime),
            xattrs,
        }
    }
}

fn once<T: PartialEq>(slot: &mut Option<T>, value: Option<T>) -> Result<(), Fault> {
    if slot.is_some() && *slot != value {
        return Err(Fault::Ambiguous(
            "a PAX header gives two values for one key",
        ));
    }
    *slot = value;
    Ok(())
}

/// `<length> <key>=<value>\n`, where the length counts the whole record.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
    let body = data.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    Some((&body[..equals], &body[equals + 1..], &data[length..]))
}

/// Seconds since 1970 with a decimal fraction, possibly negative.
fn time(value: &[u8]) -> Option<Mtime> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let secs: i64 = whole.parse().ok()?;
    let digits: String = fraction
        .chars()
        .chain(std::iter::repeat('0'))
        .take(9)
        .collect();
    let nanos: u32 = digits.parse().ok()?;
    if whole.starts_with('-') && nanos > 0 {
        return Some(Mtime {
            secs: secs.checked_sub(1)?,
            nanos: 1_000_000_000 - nanos,
        });
    }
    Some(Mtime { secs, nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let pax = Pax::parse(
            b"12 path=a/b\n22 mtime=12.500000000\n33 SCHILY.xattr.user.x=a\nb=c\0ddd\n",
            false,
        );
        let pax = pax.unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"a/b"[..]));
        assert_eq!(
            pax.mtime,
            Some(Mtime {
                secs: 12,
                nanos: 500_000_000
            })
        );
        assert_eq!(pax.xattrs, [("user.x".to_owned(), b"a\nb=c\0ddd".to_vec())]);
        assert_eq!(
            time(b"-1.25"),
            Some(Mtime {
                secs: -2,
                nanos: 750_000_000
            })
        );

        for bad in [
            &b"11 path=a/b\n"[..],
            b"13 path=a/b\n",
            b"path=a\n",
            b"12 path:a/b\n",
            b"999999999999999999999 a=b\n",
            b"0 ",
        ] {
            assert!(
                matches!(Pax::parse(bad, false), Err(Fault::Damaged(_))),
                "{bad:?}"
            );
        }
        assert!(matches!(
            Pax::parse(b"10 path=a\n10 path=b\n", false),
            Err(Fault::Ambiguous(_))
        ));
        assert!(matches!(
            Pax::parse(b"10 path=a\n", true),
            Err(Fault::Ambiguous(_))
        ));
        assert!(matches!(
            Pax::parse(b"22 GNU.sparse.major=1\n", false),
            Err(Fault::Unsupported(_))
        ));
    }
}
