import { type LlamaModel, LlamaVocabularyType, type Token } from 'node-llama-cpp'

/** Where a text can be cut so that its parts have the same tokens as the whole. */

const SPACE = 0x20
const NEWLINE = 0x0a

/** Where a model's texts may be cut. */
export interface Cuts {
  /**
   * The last place in (`from`, `to`] at which the text can be cut; before it stands a letter or a digit, behind it a space
   * or the end of a line.
   * @returns -1 where there is none
   */
  last(text: string, from: number, to: number): number
  /** The first one behind `from`, up to `to`. */
  first(text: string, from: number, to: number): number
  /** True where the model puts a space before each text: a part that begins with one goes without it. */
  readonly addsSpace: boolean
}

/**
 * A token that had both sides of a cut in it would be lost by cutting: no token of the model may have this sign and then a
 * space. Where no token has, byte pairs are merged on both sides as if the other were not there, and the patterns by which
 * such vocabularies cut texts into words first all begin a new word at white space behind a letter or a digit.
 * @param piece what a token says
 * @returns undefined for vocabularies that look at more than that
 */
export function cutsOf(model: LlamaModel, piece: (id: Token) => Uint8Array, ids: readonly Token[]): Cuts | undefined {
  const { vocabularyType } = model
  if (vocabularyType !== LlamaVocabularyType.bpe && vocabularyType !== LlamaVocabularyType.spm) return undefined
  /** By the last byte of what stands before. */
  const joined = { [SPACE]: new Uint8Array(256), [NEWLINE]: new Uint8Array(256) }
  for (const id of ids) {
    const bytes = piece(id)
    for (let i = 1; i < bytes.length; i++) {
      const [before = 0, own = 0] = [bytes[i - 1], bytes[i]]
      if (own === SPACE || own === NEWLINE) joined[own][before] = 1
    }
  }
  const [first] = model.tokenize('x')
  const addsSpace = first !== undefined && piece(first)[0] === SPACE
  const isCut = (text: string, at: number): boolean => {
    const code = text.charCodeAt(at)
    // A part that begins with a line would get a space before it.
    if (code !== SPACE && (code !== NEWLINE || addsSpace)) return false
    const before = /[\p{L}\p{N}]$/u.exec(text.slice(Math.max(0, at - 2), at))?.[0]
    if (before === undefined) return false
    return joined[code][Buffer.from(before).at(-1) ?? 0] === 0
  }
  return {
    addsSpace,
    last(text, from, to) {
      for (let at = Math.min(to, text.length - 1); at > from; at--) if (isCut(text, at)) return at
      return -1
    },
    first(text, from, to) {
      for (let at = from + 1; at <= Math.min(to, text.length - 1); at++) if (isCut(text, at)) return at
      return -1
    },
  }
}
