//! The report in a browser. `RAGFT_CHROMIUM` names a Chromium; without it these tests say that they were skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::sandbox::Sandbox;

/// What a page must not do whatever an answer says, and must survive showing.
const HOSTILE: [&str; 4] = [
    "<script>console.error('hostile')</script>",
    "\"' onmouseover=\"console.error('hostile')",
    "</details></section><img src=x onerror=console.error('hostile')>",
    "right\u{202e}left\u{2028}line",
];

fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("RAGFT_CHROMIUM").map(PathBuf::from);
    if path.is_none() {
        eprintln!("skipped: RAGFT_CHROMIUM does not name a Chromium");
    }
    path
}

/// A small run whose answers are hostile now and then, reported again.
fn hostile_run(sandbox: &Sandbox) -> PathBuf {
    let settings = ["finetune.max_steps=4", "measure.latency_samples=4", "measure.noise_samples=0", "measure.audit_samples=0"];
    let settings = settings.into_iter().flat_map(|setting| ["--set", setting]);
    let args: Vec<&str> = ["run", "-o", "out", "--quiet", "--limit", "40"].into_iter().chain(settings).collect();
    sandbox.run(0, &args);
    let journal = sandbox.path("out/journal.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap();
    let line = |(number, line): (usize, &str)| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        if number % 5 == 0 && row["phase"] == "accuracy" {
            row["answer"] = HOSTILE[number / 5 % HOSTILE.len()].into();
        }
        row.to_string() + "\n"
    };
    std::fs::write(&journal, text.lines().enumerate().map(line).collect::<String>()).unwrap();
    sandbox.run(0, &["report", "out", "--quiet"]);
    sandbox.path("out/report.html")
}

/// Uses the page as a reader would and says what became of it, to the page around it.
const PROBE: &str = r##"
addEventListener("load", () => {
  const found = {};
  const list = () => [...document.querySelectorAll(".question")].filter((element) => !element.hidden);
  const set = (id, value) => {
    const element = document.getElementById(id);
    element.value = value;
    element.dispatchEvent(new Event("input"));
  };
  found.all = list().length;
  const right = () => list().map((element) => Number(element.dataset.right));
  const rises = (numbers) => numbers.every((number, index) => index === 0 || numbers[index - 1] <= number);
  set("sort", "fewest");
  found.fewest = rises(right());
  set("sort", "most");
  found.most = rises(right().reverse());
  set("sort", "best baseline");
  found.best = rises(list().map((element) => Number(element.querySelector("[data-variant=baseline]").dataset.score)).reverse());
  set("show", "wrong baseline");
  found.wrong = list().length > 0 && list().every((element) => element.querySelector("[data-variant=baseline]").dataset.verdict !== "right");
  set("show", "all");
  const first = document.querySelector(".question").dataset.id;
  set("find", first);
  found.find = list().length >= 1 && list().some((element) => element.dataset.id === first) && list().length < found.all;
  set("find", "no such words anywhere");
  found.nothing = list().length === 0 && document.getElementById("count").textContent.startsWith("0 of");
  found.address = location.hash.includes("find=no");
  set("find", "");
  set("sort", "order");
  const table = document.querySelector("#quality table");
  const button = table.tHead.rows[0].cells[1].querySelector("button");
  const column = () => [...table.tBodies[0].rows].map((row) => parseFloat(row.cells[1].textContent));
  button.click();
  found.column = rises(column());
  button.click();
  found.columnBack = rises(column().reverse());
  document.querySelectorAll("details").forEach((element) => { element.open = true; });
  found.overflow = document.documentElement.scrollWidth - innerWidth;
  found.width = innerWidth;
  found.paper = getComputedStyle(document.body).backgroundColor;
  parent.postMessage(Object.entries(found).map(([name, value]) => `${name}=${value}`).join(";"), "*");
});
"##;

/// Opens the page in a frame of this width; gives what the probe found and what the console said.
fn visit(chromium: &Path, report: &Path, width: u32, dark: bool) -> (String, String) {
    let page = std::fs::read_to_string(report).unwrap();
    let nonce = page.split("<script nonce=\"").nth(1).unwrap().split('"').next().unwrap();
    let probe = page.replace("</body>", &format!("<script nonce=\"{nonce}\">{PROBE}</script></body>"));
    let folder = report.parent().unwrap();
    std::fs::write(folder.join("probe.html"), probe).unwrap();
    let around = format!(
        "<!doctype html><body><iframe src=\"probe.html\" style=\"width:{width}px;height:2000px;border:0\"></iframe>\
         <script>addEventListener(\"message\", (event) => {{ document.body.dataset.found = event.data; }});</script>"
    );
    std::fs::write(folder.join("around.html"), around).unwrap();
    let scheme = if dark { "--blink-settings=preferredColorScheme=0" } else { "--blink-settings=preferredColorScheme=1" };
    let output = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--enable-logging=stderr", scheme])
        .args(["--window-size=1400,2200", "--virtual-time-budget=10000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("file://{}", folder.join("around.html").display()))
        .output()
        .unwrap();
    let (dom, log) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
    let found = dom.split("data-found=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned();
    let console: String = log.lines().filter(|line| line.contains("CONSOLE")).map(|line| format!("{line}\n")).collect();
    (found, console)
}

#[test]
fn the_report_can_be_searched_and_sorted_and_fits_a_phone() {
    let Some(chromium) = chromium() else { return };
    let sandbox = Sandbox::new();
    let report = hostile_run(&sandbox);
    let page = std::fs::read_to_string(&report).unwrap();
    assert!(page.contains("id=\"tools\" hidden") && page.contains("<bdi>right⟨U+202E⟩left line</bdi>"));
    assert_eq!((page.matches("<details class=\"question\"").count(), page.matches("<script").count()), (40, 1));
    let mut papers = Vec::new();
    for (width, dark) in [(390, false), (390, true), (1280, false)] {
        let (found, console) = visit(&chromium, &report, width, dark);
        assert_eq!(console, "", "at {width}");
        let value = |name: &str| found.split(';').find_map(|pair| pair.strip_prefix(&format!("{name}="))).unwrap_or("missing").to_owned();
        for name in ["fewest", "most", "best", "wrong", "find", "nothing", "address", "column", "columnBack"] {
            assert_eq!(value(name), "true", "{name} at {width}: {found}");
        }
        assert_eq!((value("all"), value("width")), ("40".to_owned(), width.to_string()), "{found}");
        assert!(value("overflow").parse::<i64>().unwrap() <= 0, "{found}");
        papers.push(value("paper"));
    }
    assert_ne!(papers[0], papers[1], "dark and light differ");
    assert_eq!(papers[0], papers[2]);
}
