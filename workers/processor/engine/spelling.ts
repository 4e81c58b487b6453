import { type LlamaModel, LlamaVocabularyType, type Token } from 'node-llama-cpp'
import { type Spelling, Tokens } from './grammar/index.js'
import { asTokens, BYTE_OF_SIGN } from './vocabulary.js'

/** The numbers that GGUF files have for kinds of tokens. */
const NORMAL = 1
const UNUSED = 5
const BYTE = 6

const NOTHING = new Uint8Array()

/** All tokens of a model as it writes them. */
export function tokensOf(model: LlamaModel): Tokens {
  const { tokens = [], token_type: kinds = [] } = model.fileInfo.metadata.tokenizer?.ggml ?? {}
  const ids = asTokens(model, [...tokens.keys()], 'tokens')
  const spell = spellerFor(model)
  return new Tokens(
    ids.map((id): Spelling => {
      const bytes = spell(tokens[id] ?? '', kinds[id] ?? NORMAL, id)
      return { bytes, ends: model.isEogToken(id) }
    }),
  )
}

/** What a token of a model says, in bytes. */
export function piecesOf(model: LlamaModel): (id: Token) => Uint8Array {
  const { tokens = [], token_type: kinds = [] } = model.fileInfo.metadata.tokenizer?.ggml ?? {}
  const spell = spellerFor(model)
  return (id) => spell(tokens[id] ?? '', kinds[id] ?? NORMAL, id)
}

type Speller = (name: string, kind: number, id: Token) => Uint8Array

function spellerFor(model: LlamaModel): Speller {
  switch (model.vocabularyType) {
    case LlamaVocabularyType.bpe:
      return (name, kind) => plain(name, kind) ?? byteLevel(name) ?? Buffer.from(name)
    case LlamaVocabularyType.spm:
    case LlamaVocabularyType.ugm:
    case LlamaVocabularyType.wpm:
      return (name, kind) => plain(name, kind) ?? Buffer.from(name.replaceAll('\u2581', ' '))
    default:
      // With a token before it, so that its own leading space is kept. Bytes that are no whole character are lost.
      return (_name, _kind, id) => {
        const text = model.detokenize([id], true, [id])
        return text.includes('\ufffd') ? NOTHING : Buffer.from(text)
      }
  }
}

/** What is written as its name says, in whatever vocabulary; undefined for normal tokens. */
function plain(name: string, kind: number): Uint8Array | undefined {
  if (kind === NORMAL) return undefined
  if (kind === UNUSED) return NOTHING
  const byte = kind === BYTE ? /^<0x([0-9A-F]{2})>$/i.exec(name)?.[1] : undefined
  return byte === undefined ? Buffer.from(name) : Uint8Array.of(Number.parseInt(byte, 16))
}

function byteLevel(name: string): Uint8Array | undefined {
  const bytes: number[] = []
  for (const sign of name) {
    const byte = BYTE_OF_SIGN.get(sign)
    if (byte === undefined) return undefined
    bytes.push(byte)
  }
  return Uint8Array.from(bytes)
}
