import { noModelOf } from './gguf-kinds.js'
import { count, type GgufReader } from './gguf-reader.js'

/**
 * What is looked at before llama.cpp sees a file: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Each count is
 * held against the bytes that are there for it, each number against what models have, so that no header costs more than
 * reading it once.
 */

/** Longest header: metadata, vocabulary and list of tensors. A vocabulary of 260,000 tokens with merges takes 17 MiB. */
export const MOST_HEADER_BYTES = 24 * 1024 * 1024
/** Magic, version, number of tensors, number of metadata entries. */
export const LEAST_BYTES = 24
const NEWEST_VERSION = 3
const MOST_KEYS = 4096
const MOST_KEY_BYTES = 256
const MOST_KEY_PARTS = 16
/** Items of one list: of the vocabulary's, and of others. And of all lists together. */
const MOST_TOKENIZER_ITEMS = 2 ** 20
const MOST_ITEMS = 2 ** 16
const MOST_ITEMS_IN_ALL = 2 ** 21
/** Longest text that is no list's item: a licence, say. */
const MOST_TEXT_BYTES = 1024 * 1024
const MOST_TEMPLATE_BYTES = 128 * 1024
const MOST_KIND_BYTES = 64
/** The largest models have 3,000; a loader's work grows with their square. */
const MOST_TENSORS = 8192
/** llama.cpp's own bounds: GGML_MAX_NAME, GGML_MAX_DIMS, LLAMA_MAX_LAYERS. */
const MOST_NAME_BYTES = 63
const MOST_DIMENSIONS = 4
const MOST_LAYERS = 512
const MOST_CONTEXT = 2 ** 31 - 1
const MOST_ALIGNMENT = 2 ** 20
const DEFAULT_ALIGNMENT = 32
/** Shortest metadata entry and tensor in bytes: lengths and types without a name. */
const LEAST_ENTRY_BYTES = 13
const LEAST_TENSOR_BYTES = 24

const STRING = 8
const ARRAY = 9
/** Bytes of a value by its type; a text and a list say how long they are. */
const VALUE_BYTES: Readonly<Record<number, number>> = {
  0: 1,
  1: 1,
  2: 2,
  3: 2,
  4: 4,
  5: 4,
  6: 4,
  7: 1,
  10: 8,
  11: 8,
  12: 8,
}
const UNSIGNED: Readonly<Record<number, 1 | 2 | 4>> = { 0: 1, 2: 2, 4: 4 }
const INT32 = 5
const UINT64 = 10

/** How a tensor's numbers lie in the file: so many of them in so many bytes, by ggml's number of the type. */
export const TENSOR_TYPES: Readonly<Record<number, readonly [items: number, bytes: number]>> = {
  0: [1, 4],
  1: [1, 2],
  2: [32, 18],
  3: [32, 20],
  6: [32, 22],
  7: [32, 24],
  8: [32, 34],
  9: [32, 36],
  10: [256, 84],
  11: [256, 110],
  12: [256, 144],
  13: [256, 176],
  14: [256, 210],
  15: [256, 292],
  16: [256, 66],
  17: [256, 74],
  18: [256, 98],
  19: [256, 50],
  20: [32, 18],
  21: [256, 110],
  22: [256, 82],
  23: [256, 136],
  24: [1, 1],
  25: [1, 2],
  26: [1, 4],
  27: [1, 8],
  28: [1, 8],
  29: [256, 56],
  30: [1, 2],
  34: [256, 54],
  35: [256, 66],
  39: [32, 17],
  40: [64, 36],
  41: [128, 18],
  42: [64, 18],
}

/** What a header says of a file that is one of several parts. */
export interface GgufParts {
  /** This part's number, from 0. */
  number: number
  count: number
}

/**
 * Reads a header from its beginning to the list of tensors, and makes sure that the file has what it tells of.
 * @returns how the model is split; undefined where this file is all of it
 * @throws MeshError MODEL_INVALID saying what is wrong, CANCELLED
 */
export async function readHeader(reader: GgufReader): Promise<GgufParts | undefined> {
  const [tensors, entries] = await readCounts(reader)
  const metadata = await readMetadata(reader, entries)
  const parts = partsOf(reader, metadata)
  checkMetadata(reader, metadata, parts)
  if (tensors === 0 && parts === undefined) throw reader.invalid('holds no tensors: it is a vocabulary, or no model')
  await checkTensors(reader, tensors, metadata.numbers.get('general.alignment') ?? DEFAULT_ALIGNMENT)
  return parts
}

async function readCounts(reader: GgufReader): Promise<[tensors: number, entries: number]> {
  // The magic: whoever opened the file has looked at it.
  reader.skip(4)
  const version = await reader.uint(4)
  if (version < 2 || version > NEWEST_VERSION) {
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32LE(version)
    const bigEndian = bytes.readUInt32BE() <= NEWEST_VERSION ? ' (it is big-endian)' : ''
    throw reader.invalid(`is a GGUF file of version ${version}${bigEndian}; versions 2 and 3 can be read`)
  }
  const tensors = await reader.uint64()
  const entries = await reader.uint64()
  mustFit(reader, tensors, MOST_TENSORS, LEAST_TENSOR_BYTES, 'tensors')
  mustFit(reader, entries, MOST_KEYS, LEAST_ENTRY_BYTES, 'metadata entries')
  return [tensors, entries]
}

/** A number of things is what the file has room for, and no more than any model has. */
function mustFit(reader: GgufReader, things: number, most: number, leastBytes: number, what: string): void {
  if (things > most) throw reader.invalid(`says it has ${count(things)} ${what}; at most ${count(most)} are read`)
  if (things * leastBytes > reader.bytesLeft) {
    throw reader.invalid(
      `is incomplete: it says it has ${count(things)} ${what}, and ${count(reader.bytesLeft)} bytes are left for them`,
    )
  }
}

interface Metadata {
  architecture: string | undefined
  /** What kind of file it says it is: absent in most models. */
  kind: string | undefined
  /** Whole numbers that are not negative, by key. */
  numbers: Map<string, number>
}

async function readMetadata(reader: GgufReader, entries: number): Promise<Metadata> {
  const seen = new Set<string>()
  const metadata: Metadata = { architecture: undefined, kind: undefined, numbers: new Map() }
  let items = 0
  for (let i = 0; i < entries; i++) {
    const key = await reader.text(MOST_KEY_BYTES, 'the name of a metadata entry')
    // The reader of the engine makes an object of each part between two dots.
    if (!/^[!-~]+$/.test(key) || /(^|\.)__proto__(\.|$)/.test(key) || key.split('.').length > MOST_KEY_PARTS) {
      throw reader.invalid(`names a metadata entry ${JSON.stringify(key)}, which is no name`)
    }
    if (seen.has(key)) throw reader.invalid(`has the metadata entry ${key} twice`)
    seen.add(key)
    const type = await reader.uint(4)
    if (type === ARRAY) items += await skipList(reader, key)
    else if (type === STRING) await readText(reader, key, metadata)
    else await readNumber(reader, key, type, metadata)
    if (items > MOST_ITEMS_IN_ALL) {
      throw reader.invalid(`has more than ${count(MOST_ITEMS_IN_ALL)} items in the lists of its metadata`)
    }
  }
  return metadata
}

async function readText(reader: GgufReader, key: string, metadata: Metadata): Promise<void> {
  if (key === 'general.architecture') {
    metadata.architecture = await reader.text(64, key)
    return
  }
  if (key === 'general.type') {
    metadata.kind = await reader.text(MOST_KIND_BYTES, key)
    return
  }
  const most = /^tokenizer\.chat_template(\.|$)/.test(key) ? MOST_TEMPLATE_BYTES : MOST_TEXT_BYTES
  const bytes = await reader.uint64()
  if (bytes > most && bytes <= reader.bytesLeft) {
    throw reader.invalid(`has ${count(bytes)} bytes as ${key}; at most ${count(most)} are read`)
  }
  reader.skip(bytes)
}

async function readNumber(reader: GgufReader, key: string, type: number, { numbers }: Metadata): Promise<void> {
  const bytes = VALUE_BYTES[type]
  if (bytes === undefined) throw reader.invalid(`has ${key} with a value of the unknown type ${type}`)
  const unsigned = UNSIGNED[type] ?? (type === INT32 ? 4 : undefined)
  if (unsigned !== undefined) numbers.set(key, await reader.uint(unsigned))
  else if (type === UINT64) numbers.set(key, await reader.uint64())
  else reader.skip(bytes)
}

/** @returns how many items it had */
async function skipList(reader: GgufReader, key: string): Promise<number> {
  const type = await reader.uint(4)
  const items = await reader.uint64()
  const bytes = type === STRING ? 8 : VALUE_BYTES[type]
  if (bytes === undefined) {
    throw reader.invalid(type === ARRAY ? `has lists within the list ${key}` : `has ${key} of the unknown type ${type}`)
  }
  const most = key.startsWith('tokenizer.') ? MOST_TOKENIZER_ITEMS : MOST_ITEMS
  mustFit(reader, items, most, bytes, `items in ${key}`)
  if (type === STRING) await reader.skipTexts(items)
  else reader.skip(items * bytes)
  return items
}

function partsOf(reader: GgufReader, { numbers }: Metadata): GgufParts | undefined {
  const parts = numbers.get('split.count') ?? 1
  const number = numbers.get('split.no') ?? 0
  if (parts < 2) return undefined
  if (number >= parts) throw reader.invalid(`says it is part ${number + 1} of ${parts}`)
  return { number, count: parts }
}

function checkMetadata(
  reader: GgufReader,
  { architecture, kind, numbers }: Metadata,
  parts: GgufParts | undefined,
): void {
  const noModel = noModelOf(architecture, kind)
  if (noModel !== undefined) throw reader.invalid(noModel)
  const within = (key: string, least: number, most: number) => {
    const value = numbers.get(key) ?? least
    if (value < least || value > most) {
      throw reader.invalid(`says ${key} is ${count(value)}; expected ${count(least)} to ${count(most)}`)
    }
    return value
  }
  if (!Number.isInteger(Math.log2(within('general.alignment', 1, MOST_ALIGNMENT)))) {
    throw reader.invalid(`says general.alignment is ${numbers.get('general.alignment')}; expected a power of two`)
  }
  // Of a model in parts, the first says what it is.
  if (architecture === undefined && (parts?.number ?? 0) > 0) return
  if (architecture === undefined || !/^[\w.-]+$/.test(architecture)) {
    throw reader.invalid('does not say of which architecture it is')
  }
  within(`${architecture}.block_count`, 0, MOST_LAYERS)
  within(`${architecture}.context_length`, 1, MOST_CONTEXT)
}

/** Each tensor lies behind the one before it, as llama.cpp wants it, and the last one ends within the file. */
async function checkTensors(reader: GgufReader, tensors: number, alignment: number): Promise<void> {
  const padded = (bytes: number) => Math.ceil(bytes / alignment) * alignment
  let dataBytes = 0
  let next = 0
  for (let i = 0; i < tensors; i++) {
    const name = JSON.stringify(await reader.text(MOST_NAME_BYTES, 'the name of a tensor'))
    if (name === '""') throw reader.invalid('has a tensor without a name')
    const bytes = await tensorBytes(reader, name)
    const offset = await reader.uint64()
    if (offset !== next) {
      throw reader.invalid(`has the tensor ${name} at ${count(offset)}, where ${count(next)} is next`)
    }
    dataBytes = next + bytes
    next = padded(dataBytes)
  }
  const whole = tensors === 0 ? reader.position : padded(reader.position) + dataBytes
  if (whole > reader.sizeBytes) {
    throw reader.invalid(
      `is incomplete: it has ${count(reader.sizeBytes)} bytes, and ${count(whole)} were expected by its header. Copy or download it again`,
    )
  }
}

async function tensorBytes(reader: GgufReader, name: string): Promise<number> {
  const dimensions = await reader.uint(4)
  if (dimensions > MOST_DIMENSIONS) {
    throw reader.invalid(`has the tensor ${name} with ${count(dimensions)} dimensions; at most ${MOST_DIMENSIONS}`)
  }
  let items = 1
  let row = 1
  for (let i = 0; i < dimensions; i++) {
    const length = await reader.uint64()
    if (i === 0) row = length
    items *= length
  }
  const type = await reader.uint(4)
  const [inBlock, blockBytes] = TENSOR_TYPES[type] ?? [0, 0]
  if (inBlock === 0) throw reader.invalid(`has the tensor ${name} of the unknown type ${type}`)
  if (items === 0 || !Number.isSafeInteger(items) || row % inBlock !== 0) {
    throw reader.invalid(`has the tensor ${name} with dimensions that no tensor of its type has`)
  }
  return (items / inBlock) * blockBytes
}
