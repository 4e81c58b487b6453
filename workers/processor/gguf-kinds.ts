/** What people take for a model, and what to do with it. */

/** GGUF files that are no model, by what they say they are: the field `general.type`. */
const NO_MODELS: ReadonlyMap<string, string> = new Map([
  [
    'adapter',
    'is an adapter (LoRA) for another model, and no model: merge it into that one with llama-export-lora, and add what comes of it',
  ],
  ['mmproj', 'is a projector (mmproj) with which a model reads images, and no model: add the language model beside it'],
  ['imatrix', 'is an importance matrix, with which models are quantised, and no model'],
])
/** The architecture of projectors that were written before files said what they are. */
const PROJECTOR = 'clip'

/** Why a GGUF file is no model, as a sentence's end behind its path; undefined where it may be one. */
export function noModelOf(architecture: string | undefined, kind: string | undefined): string | undefined {
  return NO_MODELS.get(architecture === PROJECTOR ? 'mmproj' : (kind ?? ''))
}

/** Files of other kinds, by their first bytes. */
const FOREIGN: readonly { bytes: Buffer; what: string }[] = [
  { bytes: Buffer.from('PK\x03\x04', 'latin1'), what: 'a ZIP archive or PyTorch weights' },
  { bytes: Buffer.from([0x1f, 0x8b]), what: 'a gzip archive: unpack it' },
  { bytes: Buffer.from('vers'), what: 'a Git LFS pointer: fetch the file itself with `git lfs pull`' },
  { bytes: Buffer.from('<!'), what: 'a web page: the download has failed' },
]

/** What to say of a file that is no GGUF file. @param beginning its first four bytes */
export function notGguf(beginning: Buffer): string {
  const known = FOREIGN.find(({ bytes }) => beginning.subarray(0, bytes.byteLength).equals(bytes))
  return `it does not begin with GGUF${known === undefined ? '' : `; it looks like ${known.what}`}`
}
