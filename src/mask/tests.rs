//! What is masked, and what is not.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use super::*;

const SECRET: &str = "p4ss w'o\"r$d/<&>+%~é";

#[test]
fn every_form_that_a_shell_or_a_log_shows_is_masked() {
    let mask = Mask::of([SECRET]).unwrap();
    let whole = |text: String| format!("before {text} behind");
    let base64 = |text: &str| STANDARD.encode(text);
    for shown in [
        SECRET.to_owned(),
        base64(SECRET),
        URL_SAFE.encode(SECRET),
        crate::digest::hex(SECRET.as_bytes()),
        "p4ss%20w%27o%22r%24d%2F%3C%26%3E%2B%25~%C3%A9".to_owned(),
        "p4ss+w%27o%22r%24d%2F%3C%26%3E%2B%25~%C3%A9".to_owned(),
        serde_json::to_string(SECRET).unwrap(),
        "'p4ss w'\\''o\"r$d/<&>+%~é'".to_owned(),
        "$'p4ss w\\'o\"r$d/<&>+%~é'".to_owned(),
        "\"p4ss w'o\\\"r\\$d/<&>+%~é\"".to_owned(),
        "p4ss\\ w\\'o\\\"r\\$d/\\<\\&\\>+%\\~é".to_owned(),
        "p4ss w&apos;o&quot;r$d/&lt;&amp;&gt;+%~é".to_owned(),
        "p4ss w'o\"r$d/&lt;&amp;&gt;+%~é".to_owned(),
        "p4ss w&#x27;o&quot;r$d/&lt;&amp;&gt;+%~é".to_owned(),
        "p4ss w&#39;o&#34;r$d/&lt;&amp;&gt;+%~é".to_owned(),
        "\"p4ss w'o\\\"r$d/\\u003c\\u0026\\u003e+%~\\u00e9\"".to_owned(),
        "\"p4ss w'o\\\"r$d\\/<&>+%~\\u00e9\"".to_owned(),
        "p4ss%20w'o%22r%24d%2F%3C%26%3E%2B%25~%C3%A9".to_owned(),
        "$'p4ss w\\'o\"r$d/<&>+%~\\303\\251'".to_owned(),
        "\\x70\\x34\\x73\\x73\\x20\\x77\\x27\\x6f\\x22\\x72\\x24\\x64".to_owned(),
        "[112, 52, 115, 115, 32, 119, 39, 111, 34, 114, 36, 100]".to_owned(),
    ] {
        let masked = mask.text(whole(shown.clone()));
        assert!(masked.contains(MASKED), "{shown}");
        for part in ["r$d", "64", "100"] {
            assert!(!masked.contains(part), "{shown}: {masked}");
        }
        assert!(
            masked.starts_with("before ") && masked.ends_with(" behind"),
            "{masked}"
        );
    }
}

#[test]
fn what_commands_write_of_a_secret_is_masked() {
    let mut secret = "";
    let mut mask = Mask::default();
    for block in include_str!("tests/shown.txt").split("\n\n") {
        let block = block.trim_end();
        if let Some(next) = block.strip_prefix("secret: ") {
            secret = next;
            mask = Mask::of([secret]).unwrap();
        }
        let Some((command, rest)) = block.strip_prefix("$ ").and_then(|of| of.split_once('\n'))
        else {
            continue;
        };
        let (written, shown) = rest.split_once("\n=\n").unwrap();
        let masked = mask.text(written.to_owned());
        assert_eq!(masked, shown, "{command}");
        for run in secret.as_bytes().windows(6) {
            let run = String::from_utf8_lossy(run);
            assert!(!masked.contains(&*run), "{command}: {masked}");
        }
    }
    assert!(!mask.is_empty());
}

#[test]
fn of_a_dump_no_more_is_seen_than_two_bytes_on_either_side_of_a_rows_end() {
    let secret = "hG7-quite-secret-2291";
    let mask = Mask::of([secret]).unwrap();
    let words = |row: &[u8], show: &dyn Fn(u16) -> String| -> String {
        row.chunks(2)
            .map(|pair| format!(" {}", show(u16::from_le_bytes([pair[0], pair[1]]))))
            .collect()
    };
    let bytes = |row: &[u8], show: &dyn Fn(u8) -> String| -> String {
        row.iter().map(|byte| format!(" {}", show(*byte))).collect()
    };
    for (before, width) in (0..32).flat_map(|before| [8, 12, 16].map(|width| (before, width))) {
        let filler = |count: usize| ".".repeat(count);
        let text = format!("{}{secret}{}", filler(before), filler(96 - before - 21));
        let mut seen = [0; 6];
        for row in text.as_bytes().chunks(width) {
            for (at, dumped) in [
                format!("{} ", bytes(row, &|byte| format!("{byte:02x}"))),
                format!("{} ", bytes(row, &|byte| format!("{byte:03o}"))),
                format!("{} ", bytes(row, &|byte| format!("  {}", char::from(byte)))),
                format!("{} ", words(row, &|word| format!("{word:04x}"))),
                format!("{} ", words(row, &|word| format!("{word:06o}"))),
                format!(
                    "0000000 {}  >{}<",
                    bytes(row, &|byte| format!("{byte:02X}")),
                    String::from_utf8_lossy(row)
                ),
            ]
            .into_iter()
            .enumerate()
            {
                let masked = mask.text(dumped);
                let unmasked = masked.replace(MASKED, " ");
                let (_, beside) = unmasked.split_once('>').unwrap_or_default();
                seen[at] += match at {
                    0..=2 => unmasked
                        .split_whitespace()
                        .filter(|byte| !["2e", "056", "."].contains(byte))
                        .count(),
                    3 | 4 => unmasked
                        .split_whitespace()
                        .filter(|word| !["2e2e", "027056"].contains(word))
                        .count(),
                    _ => beside
                        .chars()
                        .filter(|c| !matches!(c, '.' | '<' | ' '))
                        .count(),
                };
            }
        }
        assert!(
            seen.iter().all(|seen| *seen <= 4),
            "{before}, {width}: {seen:?}"
        );
    }
}

#[test]
fn numbers_and_letters_that_are_no_secret_stay() {
    let mask = Mask::of(["hG7-quite-secret-2291", "correct-horse-battery"]).unwrap();
    for text in [
        "0000000 043550 041101 041101 041101",
        "00000000: 6847 3741 4141 4141 4141 4141 4141 4141  hG7AAAAAAAAAAAAA",
        "2026-11-22T10:11:12Z 200 0.013 ms, 104 71 55 44",
        "a quite secret thing, and quite a secret; the correct horse",
        "sha256:2d2d6847372d6847372d6847372d6847372d6847372d6847372d6847372d2d2d",
        "  a   b   c   d   e   f",
    ] {
        assert_eq!(mask.text(text.to_owned()), text);
    }
}

#[test]
fn what_may_be_there_by_chance_is_masked_and_held_against_nobody() {
    let secrets = ["hG7-quite-secret-2291", "abc123", "postgres", "Password"];
    let mask = Mask::of(secrets).unwrap().telling(secrets).unwrap();
    for (text, masked, tells) in [
        ("a quite-secret-2291 in a line", "a *** in a line", false),
        ("a hG7-quite-secret-2291 in a line", "a *** in a line", true),
        ("68 47 37 2d 71 75", "***", false),
        ("aEc3LXF1aXRlLXNlY3JldC0yMjkx", "***", true),
        ("6847372d71756974652d7365637265742d32323931", "***", true),
        ("abc123", "***", false),
        ("postgres", "***", false),
        ("Password", "***", false),
        ("nothing", "nothing", false),
    ] {
        assert_eq!(mask.text(text.to_owned()), masked);
        assert_eq!(mask.tells(text), tells, "{text}");
        assert_eq!(
            mask.holds(text),
            tells || ["abc123", "postgres", "Password"].contains(&text)
        );
    }
    // Another's secret is masked and no more.
    let mask = Mask::of(["hG7-quite-secret-2291"]).unwrap();
    assert!(!mask.tells("hG7-quite-secret-2291") && mask.holds("hG7-quite-secret-2291"));
    assert!(!Mask::default().tells("nothing"));
    // Of a file the lines that could be anybody's do not count.
    let file = "apiVersion: v1\nAPP_ENV=production\ntoken: hG7quite2291Sxx7QmR00aa\n";
    let mask = Mask::of([file]).unwrap().telling([file]).unwrap();
    assert!(!mask.tells("apiVersion: v1") && !mask.tells("APP_ENV=production"));
    assert!(mask.tells("the token: hG7quite2291Sxx7QmR00aa"));
}

#[test]
fn of_an_address_scheme_and_host_are_no_secret() {
    let mask = Mask::of(["https://3fa9c1d7e2@sentry.example.com/4217"]).unwrap();
    for (text, shown) in [
        ("https://www.example.com/", "https://www.example.com/"),
        ("sentry.example.com/", "sentry.example.com/"),
        ("https://3fa9c1d7e2@sentry.example.com/4217", MASKED),
        ("key 3fa9c1d7e2 is", "key *** is"),
    ] {
        assert_eq!(mask.text(text.to_owned()), shown);
    }
    let mask = Mask::of(["https://hooks.example.com/T0Fq9xY7"]).unwrap();
    assert_eq!(
        mask.text("hooks.example.com".to_owned()),
        "hooks.example.com"
    );
    assert_eq!(mask.text("see /T0Fq9xY7".to_owned()), "see ***");
}

#[test]
fn a_piece_that_could_be_language_is_longer() {
    let mask = Mask::of(["https://hooks.example.com/services/T0Fq9/xY7"]).unwrap();
    for (text, shown) in [
        ("see https://status.invalid/", "see https://status.invalid/"),
        ("services/T0Fq9", "***"),
        ("hooks.example.com", "hooks.example.com"),
        ("https://hooks.example", "https://hooks.example"),
    ] {
        assert_eq!(mask.text(text.to_owned()), shown);
    }
}

#[test]
fn a_piece_that_a_word_has_is_spared() {
    let mask = Mask::sparing(["shop-2024-token-77", "shop-2024"], &["shop-2024-web"]).unwrap();
    assert_eq!(mask.text("shop-2024-token-77".to_owned()), MASKED);
    assert_eq!(mask.text("2024-token-7".to_owned()), MASKED);
    // As a whole it is masked even there.
    assert_eq!(mask.text("shop-2024-web".to_owned()), "***-web");
    let mask = Mask::sparing(["shop-2024-token-77"], &["shop-2024-web"]).unwrap();
    assert_eq!(mask.text("shop-2024-web".to_owned()), "shop-2024-web");
}

#[test]
fn in_base64_and_base32_it_is_found_wherever_it_begins() {
    let mask = Mask::of(["hunter2-hunter2"]).unwrap();
    for before in ["", "u", "us", "use", "user:"] {
        let shown = STANDARD.encode(format!("{before}hunter2-hunter2:behind"));
        let masked = mask.text(shown.clone());
        assert!(masked.contains(MASKED), "{before}: {shown}");
        // What is left of it is less than a character on either side.
        let left = shown.len() - (masked.len() - MASKED.len());
        assert!(left >= 15 * 8 / 6 - 1, "{before}: {masked}");
    }
    // `printf %s hunter2-hunter2:behind | base32`, and with more before it.
    for (shown, masked) in [
        (
            "NB2W45DFOIZC22DVNZ2GK4RSHJRGK2DJNZSA====",
            "***HJRGK2DJNZSA====",
        ),
        (
            "OVUHK3TUMVZDELLIOVXHIZLSGI5GEZLINFXGI===",
            "O***I5GEZLINFXGI===",
        ),
        (
            "OVZWK4R2NB2W45DFOIZC22DVNZ2GK4RSHJRGK2DJNZSA====",
            "OVZWK4R2***HJRGK2DJNZSA====",
        ),
    ] {
        assert_eq!(mask.text(shown.to_owned()), masked);
    }
}

#[test]
fn what_was_wrapped_cut_or_overlaps_is_masked_too() {
    let secret: String = (0..90u16)
        .map(|n| char::from(b'!' + (n * 7u16 % 90) as u8))
        .collect();
    let mask = Mask::of([secret.as_str(), "abcd1234", "1234wxyz-long"]).unwrap();
    for encoded in [
        STANDARD.encode(&secret),
        crate::digest::hex(secret.as_bytes()),
        crate::digest::hex(secret.as_bytes()).to_uppercase(),
    ] {
        for width in [13, 60, 64, 76] {
            for line in encoded.as_bytes().chunks(width) {
                let line = String::from_utf8(line.to_vec()).unwrap();
                let masked = mask.text(line.clone());
                assert!(line.len() < 13 || masked.len() < 6, "{line}: {masked}");
            }
        }
    }
    // A piece that a report cut out of it.
    assert_eq!(mask.text(secret[10..18].to_owned()), MASKED);
    assert_eq!(mask.text("<abcd1234wxyz-long>".to_owned()), "<***>");
}

#[test]
fn what_has_no_pieces_is_masked_as_a_whole() {
    let mask = Mask::of(["aaaaaaaaaaaaaaaaaaaaaaaa", "zz-----------9"]).unwrap();
    assert_eq!(mask.text("aaaaaaaaaaaa".to_owned()), "aaaaaaaaaaaa");
    assert_eq!(mask.text("<aaaaaaaaaaaaaaaaaaaaaaaa>".to_owned()), "<***>");
    assert_eq!(mask.text("zz-----------9".to_owned()), MASKED);
}

#[test]
fn lines_of_a_key_are_masked_and_what_is_short_or_not_there_is_left_alone() {
    let mask = Mask::of(["-----BEGIN KEY-----\nMIIBVgIBADAN\nab\n-----END KEY-----"]).unwrap();
    assert_eq!(mask.text("key: MIIBVgIBADAN ab".to_owned()), "key: *** ab");
    for text in ["nothing here", "-----BEGIN KEY-----", "-----END KEY-----\n"] {
        assert_eq!(mask.text(text.to_owned()), text);
    }
    assert!(Mask::of(["abc", ""]).unwrap().is_empty());
    assert_eq!(format!("{:?}", Mask::default()), "0 masked forms");
}

#[test]
fn a_large_key_is_not_too_much() {
    // Two KiB in lines, of what looks random.
    let mut state = 1_u32;
    let mut letter = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        char::from(alphabet[(state >> 26) as usize])
    };
    let lines: Vec<String> = (0..32)
        .map(|_| (0..64).map(|_| letter()).collect())
        .collect();
    let key = lines.join("\n");
    let mask = Mask::of([key.as_str()]).unwrap();
    let forms: usize = format!("{mask:?}")
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!((2048..60_000).contains(&forms), "{forms}");
    assert_eq!(mask.text(key[1000..1040].to_owned()), MASKED);
}

#[test]
fn a_document_is_masked_in_depth() {
    let mask = Mask::of(["hunter22"]).unwrap();
    let document = serde_json::json!({ "hunter": ["x hunter22", 1, null], "of hunter22": true });
    let masked = serde_json::json!({ "hunter": ["x ***", 1, null], "of ***": true });
    assert_eq!(mask.document(document), masked);
    // A field's name is no place for a secret, and a document without it would not be read again.
    let field = serde_json::json!({ "hunter": 1 });
    assert_eq!(Mask::of(["hunter"]).unwrap().document(field.clone()), field);
}
