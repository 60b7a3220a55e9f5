//! Parquet and Arrow files as rows of JSON values, lists and structs included.
//!
//! Second home of the table engine: it stands on Polars' own Arrow and Parquet layers, which are in the program anyway. They are written
//! for sound files and may panic on broken ones, so decoding is fenced and a panic is told as what it is: a file that cannot be read.

use std::io::Cursor;

use polars_arrow::array::{
    Array, BinaryArray, BinaryViewArray, BooleanArray, DictionaryArray, DictionaryKey, FixedSizeListArray, ListArray, MapArray,
    PrimitiveArray, StructArray, Utf8Array, Utf8ViewArray,
};
use polars_arrow::datatypes::{ArrowDataType, IntegerType, PhysicalType, TimeUnit};
use polars_arrow::io::ipc::read as ipc;
use polars_arrow::types::{NativeType, PrimitiveType};
use polars_buffer::Buffer;
use polars_parquet::parquet::page::CompressedPage;
use polars_parquet::read::{BasicDecompressor, ColumnChunkMetadata, PageReader, column_iter_to_arrays, infer_schema, read_metadata};
use serde_json::{Map, Number, Value};

use crate::fence;

/// First bytes of an Arrow file; without them it is an Arrow stream.
const ARROW_FILE: &[u8] = b"ARROW1";
/// Largest size that a Parquet file may claim for a group of rows: more is taken for a broken file, not allocated.
const LARGEST_GROUP: usize = 1 << 32;

/// Rows that a byte of a file can stand for, beyond [`FREE_ROWS`]: a constant column packs well, but no set of questions packs like this.
const ROWS_PER_BYTE: usize = 64;
/// Rows that any file may claim.
const FREE_ROWS: usize = 1 << 20;
/// Longest list of a cell; what claims more is left out.
const LONGEST_LIST: usize = 1 << 20;

/// A file of columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Columnar {
    Parquet,
    Ipc,
}

impl Columnar {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Parquet => "Parquet",
            Self::Ipc => "Arrow",
        }
    }

    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::Parquet => "Parquet without encryption",
            Self::Ipc => "an Arrow file or stream without compression, or as Parquet",
        }
    }
}

type Each<'a> = dyn FnMut(Map<String, Value>) + 'a;

/// Calls `each` with the first `limit` rows; says why it had to stop.
pub(super) fn for_each_row(kind: Columnar, bytes: Vec<u8>, limit: usize, each: &mut Each<'_>) -> Result<(), String> {
    match kind {
        Columnar::Parquet => parquet(bytes, limit, each),
        Columnar::Ipc if bytes.starts_with(ARROW_FILE) => arrow_file(&bytes, limit, each),
        Columnar::Ipc => arrow_stream(&bytes, limit, each),
    }
}

/// Runs what may panic on broken files.
fn fenced<T>(decode: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    fence::fenced(decode).unwrap_or_else(|| Err("its pages contradict its header".into()))
}

/// Whether a file of so many bytes can hold so many rows.
fn plausible(rows: usize, bytes: usize) -> Result<(), String> {
    if rows > FREE_ROWS.saturating_add(bytes.saturating_mul(ROWS_PER_BYTE)) {
        return Err(format!("it claims {rows} rows in {bytes} bytes"));
    }
    Ok(())
}

fn parquet(bytes: Vec<u8>, limit: usize, each: &mut Each<'_>) -> Result<(), String> {
    let text = |error: polars::error::PolarsError| one_line(&error.to_string());
    let bytes = Buffer::from(bytes);
    let (metadata, schema) = fenced(|| {
        let metadata = read_metadata(&mut Cursor::new(&bytes[..])).map_err(text)?;
        let schema = infer_schema(&metadata).map_err(text)?;
        Ok((metadata, schema))
    })?;
    plausible(metadata.num_rows, bytes.len())?;
    let mut left = limit;
    for group in &metadata.row_groups {
        if left == 0 {
            break;
        }
        plausible(group.num_rows(), bytes.len())?;
        if group.total_byte_size() > LARGEST_GROUP {
            return Err(format!("a group of rows claims {} bytes", group.total_byte_size()));
        }
        let columns = fenced(|| {
            let mut columns = Vec::new();
            for (name, field) in schema.iter() {
                let parts: Vec<&ColumnChunkMetadata> = group.columns_under_root_iter(name).ok_or("a column has no data")?.collect();
                let mut readers = Vec::with_capacity(parts.len());
                for &part in &parts {
                    let range = part.byte_range();
                    let (start, end) = (range.start as usize, range.end as usize);
                    if start > end || end > bytes.len() {
                        return Err("a column lies outside the file".into());
                    }
                    let pages = || PageReader::new(Cursor::new(bytes.clone().sliced(start..end)), part, Vec::new(), bytes.len());
                    // The decoder makes room for what column and pages claim, and a negative number is a large one by then. Reading the
                    // pages decodes none; where that fails, the decoder says why.
                    plausible(usize::try_from(part.num_values()).unwrap_or(usize::MAX), bytes.len())?;
                    for page in pages().map_while(Result::ok) {
                        if let CompressedPage::Data(page) = page {
                            plausible(page.num_values(), bytes.len())?;
                        }
                    }
                    readers.push(BasicDecompressor::new(pages(), Vec::new()));
                }
                let types = parts.iter().map(|part| &part.descriptor().descriptor.primitive_type).collect();
                let (arrays, _) = column_iter_to_arrays(readers, types, field.clone(), None).map_err(text)?;
                columns.push((name.to_string(), values(&arrays, left)));
            }
            Ok(columns)
        })?;
        left -= hand_out(columns, left, each)?;
    }
    Ok(())
}

fn arrow_file(bytes: &[u8], limit: usize, each: &mut Each<'_>) -> Result<(), String> {
    let text = |error: polars::error::PolarsError| one_line(&error.to_string());
    let mut reader = fenced(|| {
        let mut cursor = Cursor::new(bytes);
        let metadata = ipc::read_file_metadata(&mut cursor).map_err(text)?;
        Ok(ipc::FileReader::new(cursor, metadata, None, None))
    })?;
    let names: Vec<String> = reader.schema().iter_names().map(ToString::to_string).collect();
    let mut left = limit;
    while left > 0 {
        let batch = fenced(|| {
            let Some(batch) = reader.next() else { return Ok(None) };
            let batch = batch.map_err(text)?;
            plausible(batch.len(), bytes.len())?;
            Ok(Some(names.iter().cloned().zip(batch.arrays().iter().map(|array| values(std::slice::from_ref(array), left))).collect()))
        })?;
        match batch {
            Some(columns) => left -= hand_out(columns, left, each)?,
            None => break,
        }
    }
    Ok(())
}

fn arrow_stream(bytes: &[u8], limit: usize, each: &mut Each<'_>) -> Result<(), String> {
    let text = |error: polars::error::PolarsError| one_line(&error.to_string());
    let mut reader = fenced(|| {
        let mut cursor = Cursor::new(bytes);
        let metadata = ipc::read_stream_metadata(&mut cursor).map_err(text)?;
        Ok(ipc::StreamReader::new(cursor, metadata, None))
    })?;
    let names: Vec<String> = reader.schema().iter_names().map(ToString::to_string).collect();
    let mut left = limit;
    while left > 0 {
        let batch = fenced(|| match reader.next() {
            None | Some(Ok(ipc::StreamState::Waiting)) => Ok(None),
            Some(Err(error)) => Err(text(error)),
            Some(Ok(ipc::StreamState::Some(batch))) => {
                plausible(batch.len(), bytes.len())?;
                Ok(Some(names.iter().cloned().zip(batch.arrays().iter().map(|array| values(std::slice::from_ref(array), left))).collect()))
            }
        })?;
        match batch {
            Some(columns) => left -= hand_out(columns, left, each)?,
            None => break,
        }
    }
    Ok(())
}

fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// Turns columns of equal length into rows; gives how many there were.
fn hand_out(columns: Vec<(String, Vec<Value>)>, limit: usize, each: &mut Each<'_>) -> Result<usize, String> {
    let height = columns.first().map_or(0, |(_, values)| values.len());
    if columns.iter().any(|(_, values)| values.len() != height) {
        return Err("its columns have different lengths".into());
    }
    let mut columns: Vec<_> = columns.into_iter().map(|(name, values)| (name, values.into_iter())).collect();
    let height = height.min(limit);
    for _ in 0..height {
        each(columns.iter_mut().map(|(name, values)| (name.clone(), values.next().unwrap_or_default())).collect());
    }
    Ok(height)
}

fn values(arrays: &[Box<dyn Array>], limit: usize) -> Vec<Value> {
    let all = arrays.iter().flat_map(|array| (0..array.len()).map(|index| value(array.as_ref(), index)));
    all.take(limit).collect()
}

fn cast<T: 'static>(array: &dyn Array) -> &T {
    array.as_any().downcast_ref().expect("the type names its array")
}

fn list(array: &dyn Array) -> Value {
    if array.len() > LONGEST_LIST {
        return Value::Null;
    }
    (0..array.len()).map(|index| value(array, index)).collect()
}

/// One value. What JSON cannot say (raw bytes that are no text, intervals) is null.
fn value(array: &dyn Array, index: usize) -> Value {
    if array.is_null(index) {
        return Value::Null;
    }
    let bytes = |bytes: &[u8]| std::str::from_utf8(bytes).map_or(Value::Null, Value::from);
    match array.dtype().to_physical_type() {
        PhysicalType::Boolean => cast::<BooleanArray>(array).value(index).into(),
        PhysicalType::Primitive(kind) => primitive(array, kind, index),
        PhysicalType::Utf8 => cast::<Utf8Array<i32>>(array).value(index).into(),
        PhysicalType::LargeUtf8 => cast::<Utf8Array<i64>>(array).value(index).into(),
        PhysicalType::Utf8View => cast::<Utf8ViewArray>(array).value(index).into(),
        PhysicalType::Binary => bytes(cast::<BinaryArray<i32>>(array).value(index)),
        PhysicalType::LargeBinary => bytes(cast::<BinaryArray<i64>>(array).value(index)),
        PhysicalType::BinaryView => bytes(cast::<BinaryViewArray>(array).value(index)),
        PhysicalType::List => list(cast::<ListArray<i32>>(array).value(index).as_ref()),
        PhysicalType::LargeList => list(cast::<ListArray<i64>>(array).value(index).as_ref()),
        PhysicalType::FixedSizeList => list(cast::<FixedSizeListArray>(array).value(index).as_ref()),
        PhysicalType::Map => list(cast::<MapArray>(array).value(index).as_ref()),
        PhysicalType::Struct => {
            let array = cast::<StructArray>(array);
            let fields = array.fields().iter().zip(array.values());
            Value::Object(fields.map(|(field, column)| (field.name.to_string(), value(column.as_ref(), index))).collect())
        }
        PhysicalType::Dictionary(key) => dictionary(array, key, index),
        _ => Value::Null,
    }
}

fn dictionary(array: &dyn Array, key: IntegerType, index: usize) -> Value {
    fn of<K: DictionaryKey>(array: &dyn Array, index: usize) -> Value {
        let array = cast::<DictionaryArray<K>>(array);
        value(array.values().as_ref(), array.key_value(index))
    }
    match key {
        IntegerType::Int8 => of::<i8>(array, index),
        IntegerType::Int16 => of::<i16>(array, index),
        IntegerType::Int32 => of::<i32>(array, index),
        IntegerType::Int64 => of::<i64>(array, index),
        IntegerType::UInt8 => of::<u8>(array, index),
        IntegerType::UInt16 => of::<u16>(array, index),
        IntegerType::UInt32 => of::<u32>(array, index),
        IntegerType::UInt64 => of::<u64>(array, index),
        _ => Value::Null,
    }
}

fn primitive(array: &dyn Array, kind: PrimitiveType, index: usize) -> Value {
    fn of<T: NativeType>(array: &dyn Array, index: usize) -> T {
        cast::<PrimitiveArray<T>>(array).value(index)
    }
    match kind {
        PrimitiveType::Int8 => of::<i8>(array, index).into(),
        PrimitiveType::Int16 => of::<i16>(array, index).into(),
        PrimitiveType::Int32 => match array.dtype() {
            ArrowDataType::Date32 => date(i64::from(of::<i32>(array, index)) * 86_400),
            _ => of::<i32>(array, index).into(),
        },
        PrimitiveType::Int64 => match array.dtype() {
            ArrowDataType::Timestamp(unit, _) => date(of::<i64>(array, index).div_euclid(per_second(*unit))),
            ArrowDataType::Date64 => date(of::<i64>(array, index).div_euclid(1000)),
            _ => of::<i64>(array, index).into(),
        },
        PrimitiveType::UInt8 => of::<u8>(array, index).into(),
        PrimitiveType::UInt16 => of::<u16>(array, index).into(),
        PrimitiveType::UInt32 => of::<u32>(array, index).into(),
        PrimitiveType::UInt64 => of::<u64>(array, index).into(),
        PrimitiveType::Float32 => Number::from_f64(f64::from(of::<f32>(array, index))).map_or(Value::Null, Value::Number),
        PrimitiveType::Float64 => Number::from_f64(of::<f64>(array, index)).map_or(Value::Null, Value::Number),
        _ => Value::Null,
    }
}

fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// The day, as ISO 8601 writes it.
fn date(seconds: i64) -> Value {
    jiff::Timestamp::from_second(seconds).map_or(Value::Null, |instant| instant.strftime("%Y-%m-%d").to_string().into())
}
