//! `ports` and `expose`: nothing is published, but a service is ready when its TCP ports answer.

use std::sync::Arc;

use crate::manifest::decode::{Fields, list, string, text, word};
use crate::manifest::place::At;
use crate::manifest::problem::Problems;
use crate::manifest::tree::{Kind, Node};

/// A range of more ports than this is no list of what must answer.
const MAX_RANGE: u16 = 16;

/// The container side of `ports` and `expose`, TCP only.
pub(super) fn decode(node: &Arc<Node>, ports: &mut Vec<u16>, p: &mut Problems) {
    list(node, p, |item, p| {
        let found = if let Kind::Map(_) = item.kind {
            long(item, p)
        } else {
            short(&text(item, p)?, p)
        };
        for port in found? {
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
        Some(())
    });
}

fn long(node: &Arc<Node>, p: &mut Problems) -> Option<Vec<u16>> {
    let mut f = Fields::of(node, "a port", p)?;
    let target = f.req("target", p, text);
    let tcp = f.opt("protocol", p, |node, p| {
        word(node, p, &[("tcp", true), ("udp", false)])
    });
    f.opt("published", p, string);
    f.opt("host_ip", p, string);
    f.opt("mode", p, string);
    f.opt("name", p, string);
    f.opt("app_protocol", p, string);
    f.finish(p);
    let ports = range(&target?, None, p)?;
    Some(if tcp.unwrap_or(true) {
        ports
    } else {
        Vec::new()
    })
}

/// `[[address:]published:]container[/protocol]`
fn short(written: &At<String>, p: &mut Problems) -> Option<Vec<u16>> {
    let (ports, protocol) = written
        .value
        .rsplit_once('/')
        .unwrap_or((&written.value, "tcp"));
    let container = ports.rsplit(':').next().unwrap_or(ports);
    let tcp = match protocol {
        "tcp" => true,
        "udp" | "sctp" => false,
        other => {
            p.push(
                written
                    .place
                    .problem(format!("`{other}` is not a protocol of ports")),
            );
            return None;
        }
    };
    let ports = range(written, Some(container), p)?;
    Some(if tcp { ports } else { Vec::new() })
}

fn range(written: &At<String>, part: Option<&str>, p: &mut Problems) -> Option<Vec<u16>> {
    let text = part.unwrap_or(&written.value);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let parsed = first.parse::<u16>().ok().zip(last.parse::<u16>().ok());
    match parsed {
        Some((first, last)) if first > 0 && first <= last && last - first < MAX_RANGE => {
            Some((first..=last).collect())
        }
        Some((first, last)) if first > 0 && first <= last => {
            p.push(
                written
                    .place
                    .problem(format!(
                        "`{text}` is a range of more than {MAX_RANGE} ports"
                    ))
                    .help("list the ports that must answer before the service counts as ready"),
            );
            None
        }
        _ => {
            p.push(
                written
                    .place
                    .problem(format!("`{text}` is not a port"))
                    .help("write `\"8080:80\"` or `80`; in quotes, because YAML readers may take `a:b` for a number"),
            );
            None
        }
    }
}
