//! Lists of images: a CSV file with a path on each line, and perhaps a label behind a comma.

use std::path::{Path, PathBuf};

use super::DataError;

/// The images that the file lists, relative to its folder, and their labels where every line has one.
/// A first line that names no file is a header.
pub(super) fn read(path: &Path) -> Result<(Vec<PathBuf>, Option<Vec<i64>>), DataError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| DataError::Read { path: path.to_owned(), source })?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let (mut files, mut labels) = (Vec::new(), Vec::new());
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let (name, label) = split(line);
        let file = folder.join(name);
        if i == 0 && !file.is_file() {
            continue;
        }
        files.push(file);
        labels.extend(label);
    }
    if files.is_empty() {
        return Err(DataError::NoImages { path: path.to_owned() });
    }
    let all = labels.len() == files.len();
    Ok((files, all.then_some(labels)))
}

/// Path and label of a line; quotes around the path are taken off.
fn split(line: &str) -> (&str, Option<i64>) {
    let (name, label) = match line.rsplit_once(',') {
        Some((name, label)) => match label.trim().parse() {
            Ok(label) => (name, Some(label)),
            Err(_) => (line, None),
        },
        None => (line, None),
    };
    (name.trim().trim_matches('"'), label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        assert_eq!(split("a.png"), ("a.png", None));
        assert_eq!(split("\"a, b.png\", 3"), ("a, b.png", Some(3)));
        assert_eq!(split("a,b.png"), ("a,b.png", None));
    }

    #[test]
    fn headers_and_labels() {
        let folder = tempfile::tempdir().expect("folder");
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("written");
        };
        write("a.png", "");
        write("b.png", "");
        write("list.csv", "path,label\na.png,1\n\nb.png,0\n");
        let (files, labels) = read(&folder.path().join("list.csv")).expect("read");
        assert_eq!(files, [folder.path().join("a.png"), folder.path().join("b.png")]);
        assert_eq!(labels, Some(vec![1, 0]));
        write("some.csv", "a.png\nb.png,0\n");
        assert_eq!(read(&folder.path().join("some.csv")).expect("read").1, None);
        write("none.csv", "path\n");
        assert!(read(&folder.path().join("none.csv")).is_err());
    }
}
