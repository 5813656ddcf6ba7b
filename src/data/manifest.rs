//! Lists of samples: a CSV or Parquet file with a row for each, which holds paths and perhaps a label.

use std::path::{Path, PathBuf};

use super::DataError;

/// Columns of text, all of one length.
#[derive(Debug, PartialEq)]
pub(super) struct Table {
    path: PathBuf,
    /// Without a header the names are empty.
    columns: Vec<(String, Vec<String>)>,
}

/// Files for each input, and labels.
#[derive(Debug, PartialEq)]
pub(super) struct Listed {
    /// Name of the input, where the table names it, and a file for each sample.
    pub inputs: Vec<(Option<String>, Vec<PathBuf>)>,
    /// One for each sample.
    pub labels: Option<Vec<i64>>,
}

impl Table {
    /// Reads a CSV file. The first line is a header unless its first cell names a file beside it.
    pub(super) fn csv(path: &Path) -> Result<Table, DataError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| DataError::Read { path: path.to_owned(), source })?;
        let mut rows = rows(&text).ok_or_else(|| DataError::Format {
            path: path.to_owned(),
            kind: "CSV",
            what: "a quote is not closed".to_owned(),
        })?;
        let first = rows.first().and_then(|r| r.first());
        let header = first.is_some_and(|cell| !folder(path).join(cell).is_file());
        let names = if header { Some(rows.remove(0)) } else { None };
        let width = rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |r: &Vec<String>, i: usize| r.get(i).cloned().unwrap_or_default();
        let column = |i| {
            let name = names.as_ref().map_or_else(String::new, |n| cell(n, i));
            (name, rows.iter().map(|r| cell(r, i)).collect())
        };
        Ok(Table { path: path.to_owned(), columns: (0..width).map(column).collect() })
    }

    /// Reads the columns of text and integers of a Parquet file.
    #[cfg(feature = "parquet")]
    pub(super) fn parquet(path: &Path) -> Result<Table, DataError> {
        use parquet::file::reader::{FileReader, SerializedFileReader};
        use parquet::record::Field;

        let fail = |e: parquet::errors::ParquetError| DataError::Format {
            path: path.to_owned(),
            kind: "Parquet",
            what: e.to_string(),
        };
        let file = std::fs::File::open(path)
            .map_err(|source| DataError::Read { path: path.to_owned(), source })?;
        let reader = SerializedFileReader::new(file).map_err(fail)?;
        let schema = reader.metadata().file_metadata().schema();
        let names = schema.get_fields().iter().map(|f| f.name().to_owned());
        let mut columns: Vec<(String, Option<Vec<String>>)> =
            names.map(|n| (n, Some(Vec::new()))).collect();
        for row in reader.get_row_iter(None).map_err(fail)? {
            let row = row.map_err(fail)?;
            for ((_, field), (_, cells)) in row.get_column_iter().zip(&mut columns) {
                let text = match field {
                    Field::Str(s) => Some(s.clone()),
                    Field::Bytes(b) => std::str::from_utf8(b.data()).ok().map(str::to_owned),
                    Field::Null => Some(String::new()),
                    Field::Byte(_) | Field::Short(_) | Field::Int(_) | Field::Long(_) => {
                        Some(field.to_string())
                    }
                    Field::UByte(_) | Field::UShort(_) | Field::UInt(_) | Field::ULong(_) => {
                        Some(field.to_string())
                    }
                    _ => None,
                };
                match (cells.as_mut(), text) {
                    (Some(cells), Some(text)) => cells.push(text),
                    _ => *cells = None,
                }
            }
        }
        let columns = columns.into_iter().filter_map(|(n, cells)| Some((n, cells?))).collect();
        Ok(Table { path: path.to_owned(), columns })
    }

    /// This build reads no Parquet files.
    #[cfg(not(feature = "parquet"))]
    pub(super) fn parquet(path: &Path) -> Result<Table, DataError> {
        Err(DataError::NoParquet { path: path.to_owned() })
    }

    /// Files and labels: columns named as inputs hold files for them, else the first column that holds
    /// no labels does; labels are in the column of one of the names `keys`, or in the second one where
    /// there is no header and all of it are integers. Paths are relative to the folder of the table.
    pub(super) fn listed(self, inputs: &[&str], keys: &[&str]) -> Result<Listed, DataError> {
        let none = || DataError::NoImages { path: self.path.clone() };
        let headless = self.columns.iter().all(|c| c.0.is_empty());
        let numbers =
            |cells: &[String]| cells.iter().map(|c| c.parse().ok()).collect::<Option<Vec<i64>>>();
        let label = match headless {
            true => (self.columns.len() > 1).then_some(1),
            false => self.columns.iter().position(|c| {
                keys.iter().any(|k| c.0.eq_ignore_ascii_case(k)) && !inputs.contains(&&c.0[..])
            }),
        };
        let labels = label.and_then(|i| numbers(&self.columns[i].1));
        let folder = folder(&self.path);
        let files = |cells: &[String]| cells.iter().map(|c| folder.join(c)).collect::<Vec<_>>();
        let named = self.columns.iter().filter(|c| inputs.contains(&&c.0[..]));
        let mut found: Vec<_> = named.map(|c| (Some(c.0.clone()), files(&c.1))).collect();
        if found.is_empty() {
            let mut others = self.columns.iter().enumerate().filter(|(i, _)| Some(*i) != label);
            let (_, first) = others.next().ok_or_else(none)?;
            found.push((None, files(&first.1)));
        }
        if found.iter().any(|(_, files)| files.is_empty()) {
            return Err(none());
        }
        Ok(Listed { inputs: found, labels })
    }
}

/// Cells of a CSV text (RFC 4180): between quotes commas and line ends are text, and two quotes are
/// one. Blanks around cells go, and so do empty lines. `None` when a quote stays open.
fn rows(text: &str) -> Option<Vec<Vec<String>>> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut quoted, mut was_quoted) = (false, false);
    let mut chars = text.chars().chain(['\n']).peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => cell.extend(chars.next()),
            '"' if quoted => quoted = false,
            '"' if cell.trim().is_empty() => {
                (quoted, was_quoted) = (true, true);
                cell.clear();
            }
            ',' | '\n' if !quoted => {
                let done = std::mem::take(&mut cell);
                row.push(if was_quoted { done } else { done.trim().to_owned() });
                was_quoted = false;
                if c == '\n' {
                    rows.push(std::mem::take(&mut row));
                }
            }
            c if c.is_whitespace() && was_quoted && !quoted => {}
            c => cell.push(c),
        }
    }
    rows.retain(|r| r.iter().any(|c| !c.is_empty()));
    (!quoted).then_some(rows)
}

fn folder(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new(".")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 3] = ["y", "label", "labels"];

    fn table(columns: &[(&str, &[&str])]) -> Table {
        let cells = |c: &[&str]| c.iter().map(|s| (*s).to_owned()).collect();
        let columns = columns.iter().map(|(n, c)| ((*n).to_owned(), cells(c))).collect();
        Table { path: PathBuf::from("lists/a.csv"), columns }
    }

    #[test]
    fn cells() {
        let want = |text: &str, cells: &[&[&str]]| assert_eq!(rows(text).expect("rows"), cells);
        want("a.png", &[&["a.png"]]);
        want("a, b\r\n\n\"c, d\" ,3\n", &[&["a", "b"], &["c, d", "3"]]);
        want("\"say \"\"hi\"\"\",\n", &[&["say \"hi\"", ""]]);
        assert_eq!(rows("\"open, to\nthe end"), None);
    }

    #[test]
    fn headers_and_labels() {
        let folder = tempfile::tempdir().expect("folder");
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("written");
        };
        write("a.png", "");
        write("b, c.png", "");
        let read = |name: &str, text: &str| {
            write(name, text);
            Table::csv(&folder.path().join(name)).expect("read").listed(&["x"], &KEYS)
        };
        let all = vec![folder.path().join("a.png"), folder.path().join("b, c.png")];
        let with = read("list.csv", "path,label\na.png,1\n\n\"b, c.png\" , 0\n").expect("list");
        assert_eq!(with, Listed { inputs: vec![(None, all.clone())], labels: Some(vec![1, 0]) });
        let some = read("some.csv", "a.png\n\"b, c.png\",0\n").expect("list");
        assert_eq!(some, Listed { inputs: vec![(None, all)], labels: None });
        assert!(read("none.csv", "path\n").is_err());
    }

    #[test]
    fn columns_named_as_inputs() {
        let t =
            table(&[("id", &["7"]), ("mask", &["m.npy"]), ("Label", &["3"]), ("x", &["x.png"])]);
        let listed = t.listed(&["x", "mask"], &KEYS).expect("list");
        let name = |s: &str| Some(s.to_owned());
        let file = |s: &str| vec![PathBuf::from("lists").join(s)];
        assert_eq!(listed.inputs, [(name("mask"), file("m.npy")), (name("x"), file("x.png"))]);
        assert_eq!(listed.labels, Some(vec![3]));
        let labels_first = table(&[("label", &["3"]), ("file", &["x.png"])]);
        assert_eq!(
            labels_first.listed(&["x"], &KEYS).expect("list").inputs,
            [(None, file("x.png"))]
        );
    }

    #[cfg(feature = "parquet")]
    #[test]
    fn parquet_holds_the_same() {
        use std::sync::Arc;

        use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
        use parquet::file::{properties::WriterProperties, writer::SerializedFileWriter};

        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("list.parquet");
        let schema =
            "message m { required binary image (UTF8); required int64 label; required double w; }";
        let schema = Arc::new(parquet::schema::parser::parse_message_type(schema).expect("schema"));
        let properties = WriterProperties::builder()
            .set_compression(parquet::basic::Compression::SNAPPY)
            .build();
        let file = std::fs::File::create(&path).expect("file");
        let mut writer =
            SerializedFileWriter::new(file, schema, Arc::new(properties)).expect("writer");
        let mut rows = writer.next_row_group().expect("group");
        let mut column = rows.next_column().expect("column").expect("image");
        let names = [ByteArray::from("a.png"), ByteArray::from("b.png")];
        column.typed::<ByteArrayType>().write_batch(&names, None, None).expect("written");
        column.close().expect("closed");
        let mut column = rows.next_column().expect("column").expect("label");
        column.typed::<Int64Type>().write_batch(&[4, 2], None, None).expect("written");
        column.close().expect("closed");
        let mut column = rows.next_column().expect("column").expect("w");
        let w = column.typed::<parquet::data_type::DoubleType>();
        w.write_batch(&[0.5, 0.5], None, None).expect("written");
        column.close().expect("closed");
        rows.close().expect("closed");
        writer.close().expect("closed");
        let listed = Table::parquet(&path).expect("read").listed(&["x"], &KEYS).expect("list");
        let files = vec![folder.path().join("a.png"), folder.path().join("b.png")];
        assert_eq!(listed, Listed { inputs: vec![(None, files)], labels: Some(vec![4, 2]) });
    }
}
