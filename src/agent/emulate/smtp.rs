//! Takes mail and sends none (RFC 5321, as much of it as clients use).
//!
//! Every recipient is accepted, whoever it is: a program that is refused does something else than it would do in
//! production, and what it would have written would not be seen.

use std::sync::Arc;
use std::time::Duration;

use mail_parser::MessageParser;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Log, logged};
use crate::check::model::Received;
use crate::event::Exchange;
use crate::plan::model::fits;

/// Bytes of a line, with its end (RFC 5321, 4.5.3.1, allows 512 and 1000; clients send more).
const LINE: u64 = 8 * 1024;
/// Recipients of one mail; RFC 5321, 4.5.3.1.8, wants 100.
const RECIPIENTS: usize = 100;
/// Bytes of an address (RFC 5321, 4.5.3.1.3).
const ADDRESS: usize = 256;
/// Bytes of a mail that are kept; the rest is read and forgotten.
const KEPT: usize = 1 << 20;
/// A client that says nothing for this long is gone (RFC 5321, 4.5.3.2.7).
const SILENCE: Duration = Duration::from_secs(300);

/// Who may be written to, and where mail is written down.
pub(super) struct Office {
    host: String,
    accept: Vec<String>,
    log: Log,
}

/// A mail in the making.
#[derive(Default)]
struct Envelope {
    from: Option<String>,
    to: Vec<String>,
}

/// One connection.
pub(super) async fn conversation(office: Arc<Office>, mut stream: TcpStream, asker: String) {
    let (reader, writer) = stream.split();
    // A broken conversation is the asker's affair.
    let _ = office.talk(reader, writer, &asker).await;
}

impl Office {
    pub(super) const fn new(host: String, accept: Vec<String>, log: Log) -> Self {
        Self { host, accept, log }
    }

    async fn talk(
        &self,
        reader: impl AsyncRead + Unpin,
        mut writer: impl AsyncWrite + Unpin,
        asker: &str,
    ) -> std::io::Result<()> {
        let mut reader = BufReader::new(reader);
        let mut envelope = Envelope::default();
        let greeting = format!("220 {} ESMTP emulator", self.host);
        say(&mut writer, &greeting).await?;
        while let Some(line) = next_line(&mut reader).await? {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let answer = match verb.to_ascii_uppercase().as_str() {
                "EHLO" => {
                    envelope = Envelope::default();
                    format!(
                        "250-{}\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 AUTH PLAIN LOGIN",
                        self.host
                    )
                }
                "HELO" => {
                    envelope = Envelope::default();
                    format!("250 {}", self.host)
                }
                "MAIL" => match address(rest, "FROM") {
                    Some(from) => {
                        envelope = Envelope {
                            from: Some(from),
                            to: Vec::new(),
                        };
                        "250 2.1.0 ok".to_owned()
                    }
                    None => "501 5.5.4 MAIL FROM:<address>".to_owned(),
                },
                "RCPT" => match address(rest, "TO").filter(|to| !to.is_empty()) {
                    _ if envelope.from.is_none() => "503 5.5.1 MAIL comes first".to_owned(),
                    _ if envelope.to.len() >= RECIPIENTS => {
                        "452 4.5.3 too many recipients".to_owned()
                    }
                    Some(to) => {
                        envelope.to.push(to);
                        "250 2.1.5 ok".to_owned()
                    }
                    None => "501 5.5.4 RCPT TO:<address>".to_owned(),
                },
                "DATA" if envelope.to.is_empty() => "503 5.5.1 RCPT comes first".to_owned(),
                "DATA" => {
                    say(&mut writer, "354 end with a line that is a dot").await?;
                    let Some((mail, bytes)) = message(&mut reader).await? else {
                        return Ok(());
                    };
                    let envelope = std::mem::take(&mut envelope);
                    self.take(envelope, &mail, bytes, asker)
                        .map_err(std::io::Error::other)?;
                    "250 2.0.0 taken, and sent to nobody".to_owned()
                }
                "AUTH" => {
                    self.authenticate(rest, &mut reader, &mut writer).await?;
                    "235 2.7.0 welcome".to_owned()
                }
                "RSET" => {
                    envelope = Envelope::default();
                    "250 2.0.0 ok".to_owned()
                }
                "NOOP" => "250 2.0.0 ok".to_owned(),
                "VRFY" => "252 2.5.0 send it and see".to_owned(),
                "QUIT" => {
                    return say(&mut writer, "221 2.0.0 bye").await;
                }
                _ => "502 5.5.1 not understood".to_owned(),
            };
            say(&mut writer, &answer).await?;
        }
        Ok(())
    }

    /// Lets everybody in: what proves who a client is, is asked for and forgotten.
    async fn authenticate(
        &self,
        rest: &str,
        reader: &mut (impl tokio::io::AsyncBufRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> std::io::Result<()> {
        let (mechanism, initial) = rest.split_once(' ').unwrap_or((rest, ""));
        // "Username:" and "Password:" in base64, which clients look for.
        let questions: &[&str] = match (mechanism.to_ascii_uppercase().as_str(), initial.is_empty())
        {
            ("LOGIN", true) => &["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"],
            ("LOGIN", false) => &["334 UGFzc3dvcmQ6"],
            (_, true) => &["334 "],
            (_, false) => &[],
        };
        for question in questions {
            say(writer, question).await?;
            next_line(reader).await?;
        }
        Ok(())
    }

    fn take(&self, envelope: Envelope, mail: &[u8], bytes: u64, asker: &str) -> Result<(), String> {
        let under_way = self.log.under_way();
        let parsed = MessageParser::default().parse(mail);
        let subject = parsed.as_ref().and_then(|mail| mail.subject());
        let text = parsed
            .as_ref()
            .and_then(|mail| mail.body_text(0).or_else(|| mail.body_html(0)));
        let (body, cut) = match &text {
            Some(text) => logged(text.as_bytes()),
            None => logged(mail),
        };
        let strangers: Vec<&str> = envelope
            .to
            .iter()
            .filter(|to| !self.accepts(to))
            .map(String::as_str)
            .collect();
        let note = match strangers.as_slice() {
            [] => String::new(),
            strangers => format!("{} may not be written to", strangers.join(", ")),
        };
        self.log.write(Received {
            kind: Exchange::Smtp,
            asker: asker.to_owned(),
            from: envelope.from.unwrap_or_default(),
            matched: strangers.is_empty(),
            to: envelope.to,
            subject: subject.unwrap_or_default().to_owned(),
            body,
            cut: cut || bytes > mail.len() as u64,
            bytes,
            note,
            ..Received::default()
        })?;
        drop(under_way);
        Ok(())
    }

    fn accepts(&self, address: &str) -> bool {
        let address = address.to_lowercase();
        self.accept.iter().any(|pattern| fits(pattern, &address))
    }
}

/// `FROM:<a@b> SIZE=1`: the address, without what programs hide in one.
fn address(rest: &str, word: &str) -> Option<String> {
    let (key, rest) = rest.split_once(':')?;
    if !key.trim().eq_ignore_ascii_case(word) {
        return None;
    }
    let rest = rest.trim();
    let address = match rest.strip_prefix('<') {
        Some(inner) => inner.split_once('>')?.0,
        None => rest.split_whitespace().next().unwrap_or_default(),
    };
    let sound = address.len() <= ADDRESS && !address.contains(char::is_control);
    sound.then(|| address.to_owned())
}

async fn say(writer: &mut (impl AsyncWrite + Unpin), line: &str) -> std::io::Result<()> {
    writer.write_all(format!("{line}\r\n").as_bytes()).await?;
    writer.flush().await
}

/// A line with its end; what is longer comes in pieces. Nothing at the end of the input.
async fn next_line(
    reader: &mut (impl tokio::io::AsyncBufRead + Unpin),
) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    timeout(SILENCE, reader.take(LINE).read_until(b'\n', &mut line)).await??;
    Ok((!line.is_empty()).then_some(line))
}

/// A mail up to its final dot, without the dots that were doubled, and its bytes. Nothing where it breaks off.
async fn message(
    reader: &mut (impl tokio::io::AsyncBufRead + Unpin),
) -> std::io::Result<Option<(Vec<u8>, u64)>> {
    let (mut mail, mut bytes) = (Vec::new(), 0);
    let mut at_start = true;
    loop {
        let Some(line) = next_line(reader).await? else {
            return Ok(None);
        };
        let ended = line.ends_with(b"\n");
        let text: &[u8] = match line.as_slice() {
            b".\r\n" | b".\n" if at_start => return Ok(Some((mail, bytes))),
            [b'.', rest @ ..] if at_start => rest,
            whole => whole,
        };
        at_start = ended;
        bytes += text.len() as u64;
        let most = KEPT.saturating_sub(mail.len()).min(text.len());
        mail.extend_from_slice(&text[..most]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn talked(lines: &str) -> String {
        let office = Office::new(
            "smtp.example.com".to_owned(),
            vec!["*@staging.example".to_owned()],
            Log::new(),
        );
        let mut said = Vec::new();
        office
            .talk(lines.as_bytes(), &mut said, "172.18.0.5")
            .await
            .expect("a conversation");
        String::from_utf8(said).expect("text")
    }

    fn codes(said: &str) -> Vec<&str> {
        said.lines().filter_map(|line| line.get(..3)).collect()
    }

    #[tokio::test]
    async fn a_client_gets_through_in_the_order_of_the_rules_and_in_no_other() {
        let said = talked(
            "EHLO app\r\nAUTH PLAIN AGEAYg==\r\nMAIL FROM:<a@x.example> SIZE=12\r\nRCPT TO:<b@staging.example>\r\nDATA\r\n\
             Subject: hello\r\n\r\n..dot\r\n.\r\nQUIT\r\nNOOP\r\n",
        )
        .await;
        let wanted = [
            "220", "250", "250", "250", "250", "250", "235", "250", "250", "354", "250", "221",
        ];
        assert_eq!(codes(&said), wanted, "{said}");
        let said = talked(
            "RCPT TO:<b@x>\r\nDATA\r\nMAIL FROM\r\nMAIL FROM:<>\r\nRCPT TO:<>\r\nSTARTTLS\r\n",
        )
        .await;
        assert_eq!(
            codes(&said),
            ["220", "503", "503", "501", "250", "501", "502"],
            "{said}"
        );
        let said = talked("AUTH LOGIN\r\nYQ==\r\nYg==\r\nNOOP\r\n").await;
        assert_eq!(codes(&said), ["220", "334", "334", "235", "250"], "{said}");
    }

    #[tokio::test]
    async fn a_mail_ends_at_its_dot_and_doubled_dots_are_single() {
        let mut reader =
            BufReader::new(&b"Subject: x\r\n\r\n..\r\n.hidden\r\na\r\n.\r\nQUIT\r\n"[..]);
        let (mail, bytes) = message(&mut reader).await.expect("read").expect("whole");
        assert_eq!(mail, b"Subject: x\r\n\r\n.\r\nhidden\r\na\r\n");
        assert_eq!(bytes, mail.len() as u64);
        let mut reader = BufReader::new(&b"no end\r\n"[..]);
        assert!(message(&mut reader).await.expect("read").is_none());
    }

    #[test]
    fn addresses_are_found_and_held_against_who_may_be_written_to() {
        for (rest, word, wanted) in [
            ("FROM:<a@b>", "FROM", Some("a@b")),
            ("from: <a@b> SIZE=1 BODY=8BITMIME", "FROM", Some("a@b")),
            ("FROM:<>", "FROM", Some("")),
            ("TO:a@b NOTIFY=NEVER", "TO", Some("a@b")),
            ("TO:<a@b", "TO", None),
            ("FROM:<a@b>", "TO", None),
            ("", "TO", None),
        ] {
            assert_eq!(address(rest, word).as_deref(), wanted, "{rest}");
        }
        let office = Office::new(
            "x".to_owned(),
            vec![
                "*@staging.example".to_owned(),
                "boss@example.com".to_owned(),
            ],
            Log::new(),
        );
        for (address, wanted) in [
            ("Anna@Staging.Example", true),
            ("boss@example.com", true),
            ("customer@example.com", false),
            ("anna@staging.example.evil.example", false),
        ] {
            assert_eq!(office.accepts(address), wanted, "{address}");
        }
    }
}
