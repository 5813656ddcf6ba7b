//! JUnit XML, as Jenkins, GitLab and others show it: a suite for each model, a case for each budget.

use crate::gate::{Check, Status};

/// The whole file. Written by hand: the crates for it bring clocks and identifiers that a report
/// which is the same for the same models has no use for.
pub fn junit(checks: &[Check]) -> String {
    let mut models: Vec<&str> = Vec::new();
    for c in checks {
        if !models.contains(&c.model.as_str()) {
            models.push(&c.model);
        }
    }
    let count = |checks: &[&Check], status| checks.iter().filter(|c| c.status == status).count();
    let all: Vec<&Check> = checks.iter().collect();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"lapidary gate\" tests=\"{}\" failures=\"{}\" errors=\"0\">\n",
        all.len(),
        count(&all, Status::Exceeded)
    );
    for model in models {
        let own: Vec<&Check> = checks.iter().filter(|c| c.model == model).collect();
        xml += &format!(
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\">\n",
            escaped(model),
            own.len(),
            count(&own, Status::Exceeded),
            count(&own, Status::New)
        );
        own.iter().for_each(|c| xml += &case(c));
        xml += "  </testsuite>\n";
    }
    xml + "</testsuites>\n"
}

fn case(c: &Check) -> String {
    let head = format!(
        "    <testcase name=\"{}\" classname=\"{}\"",
        escaped(&format!("{} {}", c.budget, c.limit)),
        escaped(&c.model)
    );
    match c.status {
        Status::Passed => format!("{head}/>\n"),
        Status::New => {
            format!(
                "{head}>\n      <skipped message=\"the baseline lacks the model\"/>\n    </testcase>\n"
            )
        }
        Status::Exceeded => format!(
            "{head}>\n      <failure message=\"{}\" type=\"{}\">{}</failure>\n    </testcase>\n",
            escaped(&c.message()),
            escaped(c.budget),
            escaped(&c.because())
        ),
    }
}

/// The text as XML 1.0 takes it; characters that it has no place for become `?`.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\t' | '\n' | '\r' => out += &format!("&#{};", c as u32),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_strangers_stay_text() {
        assert_eq!(escaped("a<\"b\">&\u{1}\n"), "a&lt;&quot;b&quot;&gt;&amp;?&#10;");
    }
}
