//! What `docs/protocol.md` says in numbers and bytes is what the code does.
//!
//! Tables and examples stand between markers; `UPDATE_DOCS=1 cargo test -p whimbrel-wire --test docs` writes them anew.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use whimbrel_core::layout::{Gpa, PageNumber, PageSize, RamLayout, Region};
use whimbrel_core::machine::handoff::{HandoffMessage, Standing};
use whimbrel_core::machine::message::{Configuration, Message, MigrationId, Section};
use whimbrel_core::units::{ByteCount, Pages};
use whimbrel_wire::frame::{FrameHeader, FrameKind, HEADER_LEN, gate, ping};
use whimbrel_wire::hello::{
    Capabilities, Direction, Hello, MAGIC, PREFIX_LEN, Reject, Role, Terms, Token, Versions, decode_answer,
    encode_answer, rest,
};
use whimbrel_wire::{Limit, Limits, control};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md");

/// `page` with what stands between the markers of `name` replaced.
fn with(page: &str, name: &str, made: &str) -> String {
    let begin =
        format!("<!-- begin: {name}, made by `UPDATE_DOCS=1 cargo test -p whimbrel-wire --test docs` -->\n");
    let end = format!("<!-- end: {name} -->");
    let (above, rest) = page.split_once(&begin).expect("the page has the begin marker");
    let (_, below) = rest.split_once(&end).expect("the page has the end marker");
    format!("{above}{begin}\n{made}\n{end}{below}")
}

fn limits() -> String {
    let mut table = "| what | at most |\n|---|---|\n".to_owned();
    for limit in Limit::ALL {
        let _ = writeln!(table, "| {limit} | {} |", Limits::default().most(limit));
    }
    table
}

/// One of each message, and what stands behind its code.
fn messages() -> Vec<(Message, &'static str)> {
    let region = |start, len| Region { start: Gpa(start), len: ByteCount(len) };
    let regions = vec![region(0, 0xa_0000), region(0x10_0000, 0x10_0000)];
    let layout = RamLayout::new(PageSize::Kib4, regions).unwrap();
    let configuration = Configuration { id: MigrationId(7), name: "guest".into(), layout, vcpus: 2 };
    let section = Section { kind: "vcpu-0".into(), version: 1, bytes: vec![0xaa, 0xbb] };
    vec![
        (
            Message::Configure(Arc::new(configuration)),
            "migration u64, name text, vCPUs u32, log₂ of the page size u8, then a list of regions: start u64, length u64",
        ),
        (Message::Accept, "–"),
        (Message::Refuse { reason: "no room".into() }, "reason text"),
        (Message::RoundEnd { round: 3 }, "round u32"),
        (Message::Acknowledge { round: 3 }, "round u32"),
        (Message::PostCopy { missing: Pages(300) }, "missing pages u64"),
        (Message::Request { page: PageNumber(300) }, "page number u64"),
        (Message::Lost { reason: "gone".into() }, "reason text"),
        (Message::State(vec![section]), "a list of sections: kind text, version u32, state bytes"),
        (
            Message::Handoff { message: HandoffMessage::Ready, took: Duration::from_millis(2) },
            "what u8 (below), took in nanoseconds u64",
        ),
    ]
}

/// The body of a message's frame.
fn body(message: &Message) -> Vec<u8> {
    control::encode(message, &Limits::default()).unwrap().split_off(HEADER_LEN)
}

fn message_table() -> String {
    use HandoffMessage as H;
    let mut table = "| code | message | then |\n|---|---|---|\n".to_owned();
    for (message, fields) in messages() {
        let name = message.name().trim_start_matches("message ");
        let name = if name == "ready" { "handoff" } else { name };
        let _ = writeln!(table, "| {} | *{name}* | {fields} |", body(&message)[0]);
    }
    table.push_str("\n| what in *handoff* | code |\n|---|---|\n");
    let answers = [Standing::Prepared, Standing::Running, Standing::Gone].map(H::Answer);
    let plain = [H::Ready, H::Go, H::Running, H::Cancel, H::Withdraw, H::Ask];
    for said in plain.into_iter().chain(answers) {
        let _ = writeln!(table, "| *{said}* | {} |", body(&Message::handoff(said))[1]);
    }
    table
}

fn kinds() -> String {
    let mut table = "| code | kind |\n|---|---|\n".to_owned();
    for kind in FrameKind::ALL {
        let _ = writeln!(table, "| {} | {} |", kind.code(), kind.name());
    }
    table
}

fn capabilities() -> String {
    let mut table = "| bit | capability |\n|---|---|\n".to_owned();
    for (name, set) in [
        ("zero pages and raw pages: always", Capabilities::PLAIN),
        ("lz4", Capabilities::LZ4),
        ("zstd", Capabilities::ZSTD),
        ("delta", Capabilities::DELTA),
        ("checksums cover payloads", Capabilities::PAYLOAD_CHECKSUMS),
        ("a digest of all memory is compared", Capabilities::DIGEST),
    ] {
        let bits: Vec<String> =
            (0..64).filter(|bit| set.bits() >> bit & 1 == 1).map(|bit| bit.to_string()).collect();
        let _ = writeln!(table, "| {} | {name} |", bits.join(", "));
    }
    table
}

/// Sixteen bytes a line.
fn hex(bytes: &[u8]) -> String {
    let mut dump = String::new();
    for (line, bytes) in bytes.chunks(16).enumerate() {
        let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let _ = writeln!(dump, "{:04x}  {}", line * 16, bytes.join(" "));
    }
    dump
}

fn hello() -> Hello {
    Hello {
        versions: Versions::SPOKEN,
        role: Role::Control { streams: 2 },
        migration: MigrationId(7),
        capabilities: Capabilities::PLAIN.with(Capabilities::LZ4),
        memory: ByteCount(0x1a_0000),
        token: Token::new(b"open sesame").unwrap(),
    }
}

fn examples() -> Vec<(&'static str, Vec<u8>)> {
    let capabilities = Capabilities::KNOWN;
    let token = hello().token;
    let terms = Terms { token, versions: Versions::SPOKEN, capabilities, limits: Limits::default() };
    let mut examples = vec![
        ("A hello: control, two page connections, migration 7, token `open sesame`", hello().encode()),
        ("The welcome that answers it", encode_answer(&terms.judge(&hello()))),
        ("A reject: wrong token", encode_answer(&Err(Reject::Token))),
        ("A gate of round 3", gate(3).to_vec()),
        ("A ping", ping().to_vec()),
    ];
    let frame = |message: &Message| control::encode(message, &Limits::default()).unwrap();
    let messages = messages();
    examples.push(("*configure*, as a frame", frame(&messages[0].0)));
    examples.push(("*state*, as a frame", frame(&messages[8].0)));
    examples.push(("*ready*, which took 2 ms, as a frame", frame(&messages[9].0)));
    examples
}

fn example_text() -> String {
    let mut text = String::new();
    for (title, bytes) in examples() {
        let _ = writeln!(text, "{title}:\n\n```text\n{}```\n", hex(&bytes));
    }
    text
}

#[test]
fn the_page_says_what_the_code_does() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let made = with(&page, "limits", &limits());
    let made = with(&made, "kinds", &kinds());
    let made = with(&made, "capabilities", &capabilities());
    let made = with(&made, "messages", &message_table());
    let made = with(&made, "examples", example_text().trim_end());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return std::fs::write(PAGE, made).unwrap();
    }
    for (found, made) in page.lines().zip(made.lines()) {
        assert_eq!(found, made, "stale: UPDATE_DOCS=1 cargo test -p whimbrel-wire --test docs");
    }
    assert_eq!(page.len(), made.len());
}

/// The bytes of the page, as somebody would read them who has nothing else.
#[test]
fn the_examples_of_the_page_are_read_as_what_they_say() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (_, examples) = page.split_once("<!-- begin: examples").unwrap();
    let blocks: Vec<Vec<u8>> = examples.split("```text\n").skip(1).map(bytes_of).collect();
    let [asked, welcome, reject, gate_frame, ping_frame, configure, state, ready] = &blocks[..] else {
        panic!("{} examples", blocks.len());
    };
    let split = |bytes: &[u8], direction| {
        let (prefix, behind) = bytes.split_first_chunk::<PREFIX_LEN>().unwrap();
        assert_eq!((&prefix[..8], rest(prefix, direction)), (&MAGIC[..], Ok(behind.len())));
        (*prefix, behind.to_vec())
    };
    let (prefix, behind) = split(asked, Direction::FromSource);
    let asked = Hello::decode(&prefix, &behind).unwrap();
    assert_eq!(asked, hello());
    let (prefix, behind) = split(welcome, Direction::FromDestination);
    let welcomed = asked.accept(decode_answer(&prefix, &behind).unwrap()).unwrap().unwrap();
    assert_eq!((welcomed.version, welcomed.capabilities), (1, asked.capabilities));
    let (prefix, behind) = split(reject, Direction::FromDestination);
    assert_eq!(decode_answer(&prefix, &behind), Ok(Err(Reject::Token)));
    assert_eq!(gate_frame[..], gate(3));
    assert_eq!(ping_frame[..], ping());
    for (frame, at) in [(configure, 0), (state, 8), (ready, 9)] {
        let (header, body) = frame.split_first_chunk::<HEADER_LEN>().unwrap();
        let limits = Limits::default();
        let header = FrameHeader::decode(header, &limits).unwrap();
        assert_eq!((header.kind, header.verify(body)), (FrameKind::Control, Ok(())));
        assert_eq!(control::decode(body, &limits).as_ref(), Ok(&messages()[at].0));
    }
}

/// The bytes of a dump, up to its end.
fn bytes_of(text: &str) -> Vec<u8> {
    let (dump, _) = text.split_once("```").unwrap();
    let bytes = dump.lines().flat_map(|line| line.split_whitespace().skip(1));
    bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}
