//! What must be true afterwards, and what is counted. Every breach is named; none is expected.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use drover_proto::v1;
use serde_json::Value;

use super::report::{Report, Share};
use super::{Scale, World};

/// What the log says of findings.
struct Told {
    code: String,
    text: String,
    at_millis: i64,
    is_over: bool,
}

impl World {
    pub(super) async fn audit(&mut self, scale: Scale) -> Report {
        let told = self.told().await;
        let mut breaches = Vec::new();
        self.sentinels_stand(&mut breaches);
        self.work_is_not_lost(&mut breaches);
        let health: Value = serde_json::from_str(&self.there.run(&["health", "-o", "json"]).stdout).unwrap();
        let empty = Vec::new();
        let findings = health["findings"].as_array().unwrap_or(&empty);
        let is_wrong = |finding: &&Value| finding["level"] != "HEALTH_LEVEL_HEALTHY";
        let told_of = |finding: &Value| format!("{} {}", finding["code"], finding["subject"]);
        let left: Vec<String> = findings.iter().filter(is_wrong).map(told_of).collect();
        let manual = findings.iter().filter(|finding| finding["level"] == "HEALTH_LEVEL_MANUAL").count();
        let appeared: Vec<&Told> = told.iter().filter(|told| !told.is_over).collect();
        let (cleaned, delays) = self.fates(&told, &left);
        let orphaned = self.orphaned(&appeared);
        Report {
            scale,
            harm: self.harm.counts.clone(),
            orphans: Share { of: self.made.len(), count: orphaned.len() },
            orphaned,
            cleaned: Share { of: self.harm.left.len(), count: cleaned },
            manual: Share { of: appeared.len(), count: manual },
            undetected: self.harm.left.len() - delays.len(),
            delays,
            codes: count(appeared.iter().map(|told| told.code.clone())),
            kept: self.kept(),
            left,
            breaches,
        }
    }

    async fn told(&self) -> Vec<Told> {
        let client = self.client();
        let mut ask = v1::ListEventsRequest { page_size: 1000, ..Default::default() };
        let mut told = Vec::new();
        loop {
            let page = client.events().list_events(ask.clone()).await.unwrap().into_inner();
            for event in page.events {
                let is_over = match event.kind.as_str() {
                    "finding_appeared" => false,
                    "finding_ended" => true,
                    _ => continue,
                };
                let at = event.time.unwrap();
                let at_millis = at.seconds * 1000 + i64::from(at.nanos) / 1_000_000;
                let code = event.message.split(' ').next().unwrap_or_default().to_owned();
                told.push(Told { code, text: event.message, at_millis, is_over });
            }
            if page.next_page_token.is_empty() {
                return told;
            }
            ask.page_token = page.next_page_token;
        }
    }

    /// How many of the things left behind are gone without a human, and how long each took to be seen.
    fn fates(&self, told: &[Told], left: &[String]) -> (usize, Vec<i64>) {
        let mut delays = Vec::new();
        let mut cleaned = 0;
        for thing in &self.harm.left {
            let is_it = |told: &&Told| told.code == thing.kind && told.text.contains(&thing.subject);
            let seen =
                told.iter().filter(|told| !told.is_over && told.at_millis >= thing.at_millis).find(is_it);
            delays.extend(seen.map(|seen| seen.at_millis - thing.at_millis));
            if !left.iter().any(|finding| finding.contains(&thing.subject)) {
                cleaned += 1;
            }
        }
        (cleaned, delays)
    }

    /// Sessions that became orphans by themselves: nothing of theirs was planted.
    fn orphaned(&self, appeared: &[&Told]) -> BTreeSet<String> {
        const CODES: [&str; 6] = [
            "WORKTREE_WITHOUT_SESSION",
            "BRANCH_WITHOUT_SESSION",
            "PROCESS_WITHOUT_SESSION",
            "HALF_CREATED",
            "HALF_CLEANED",
            "FENCED_PLACEMENT",
        ];
        // What was planted for a session takes its branch along.
        let names = |told: &Told, thing: &super::faults::Left| {
            told.text.contains(&thing.subject) || told.text.contains(&format!("'{}'", thing.session))
        };
        let is_planted = |told: &Told| self.harm.left.iter().any(|thing| names(told, thing));
        let own = appeared.iter().filter(|told| CODES.contains(&told.code.as_str()) && !is_planted(told));
        own.map(|told| told.text.clone()).collect()
    }

    fn sentinels_stand(&mut self, breaches: &mut Vec<String>) {
        for sentinel in &self.harm.sentinels {
            if !sentinel.is_file() {
                breaches.push(format!("{} is gone, and was not Drover's", sentinel.display()));
            }
        }
        for branch in ["persons-own", "drover/looks-like-ours"] {
            if self.repositories[0].git(&["branch", "--list", branch]).is_empty() {
                breaches.push(format!("the branch {branch} is gone, and was not Drover's"));
            }
        }
        if let Some(innocent) = &mut self.harm.innocent
            && innocent.0.try_wait().ok().flatten().is_some()
        {
            breaches.push("a process that was nobody's business was ended".into());
        }
        for child in &mut self.harm.processes {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What every session wrote, and what was left in worktrees, is in the trash; but for what was deleted by hand.
    fn work_is_not_lost(&self, breaches: &mut Vec<String>) {
        let saved: Vec<BTreeSet<String>> =
            self.repositories.iter().map(|repository| contents(&repository.path)).collect();
        for (name, made) in &self.made {
            let is_there = saved[made.repository].contains(name);
            if !is_there && !made.is_spoiled && made.workspace.is_some() && !self.stays(made) {
                breaches.push(format!("the work of {name} ({}) is nowhere", made.id));
            }
        }
        for thing in &self.harm.left {
            let Some(token) = &thing.token else { continue };
            let stays = std::fs::read_to_string(std::path::Path::new(&thing.subject).join("left.txt"));
            let repository = self.made.get(&thing.session).map_or(0, |made| made.repository);
            if !saved[repository].contains(token) && stays.ok().as_ref() != Some(token) {
                breaches.push(format!("what was left in {} is nowhere", thing.subject));
            }
        }
    }

    fn stays(&self, made: &super::Made) -> bool {
        made.workspace.as_ref().is_some_and(|path| path.join("precious.txt").is_file())
    }

    /// What a cleanup leaves alone now, by reason.
    fn kept(&self) -> BTreeMap<String, usize> {
        let plan: Value =
            serde_json::from_str(&self.there.run(&["cleanup", "--dry-run", "-o", "json"]).stdout)
                .unwrap_or_default();
        let kept = plan["kept"].as_array().cloned().unwrap_or_default();
        count(kept.iter().map(|kept| kept["code"].as_str().unwrap_or_default().to_owned()))
    }
}

/// The first line of every small file in the trash.
fn contents(repository: &std::path::Path) -> BTreeSet<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").current_dir(repository).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let mut found = BTreeSet::new();
    for reference in git(&["for-each-ref", "--format=%(refname)", "refs/drover/trash"]).lines() {
        for entry in git(&["ls-tree", "-r", reference]).lines() {
            let is_meant = ["precious.txt", "left.txt"].iter().any(|name| entry.contains(name));
            if let (true, Some(id)) = (is_meant, entry.split_whitespace().nth(2)) {
                found.insert(git(&["cat-file", "blob", id]).trim().to_owned());
            }
        }
    }
    found
}

fn count(words: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    words.fold(BTreeMap::new(), |mut counts, word| {
        *counts.entry(word).or_default() += 1;
        counts
    })
}
