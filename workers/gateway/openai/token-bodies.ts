import { z } from 'zod'
import { MAX_TOLD_TOKENS } from '../../../lib/protocol/index.js'
import { flag, model } from './bodies.js'
import { isTokenId } from './texts.js'

/** The bodies of the paths that tell tokens, as llama-server has them. */

export const tokenizeBodySchema = z.looseObject({
  model,
  content: z.string(),
  add_special: flag,
  /** Absent: true. */
  parse_special: flag,
  with_pieces: flag,
})

/** Read by hand: there are many ids, and all are alike. */
export const detokenizeBodySchema = z.looseObject({
  model,
  tokens: z
    .custom<number[]>(isTokenList, `expected a list of at most ${MAX_TOLD_TOKENS} token ids`)
    .meta({ type: 'array', items: { type: 'integer', minimum: 0 }, maxItems: MAX_TOLD_TOKENS }),
})

function isTokenList(value: unknown): boolean {
  return Array.isArray(value) && value.length <= MAX_TOLD_TOKENS && value.every(isTokenId)
}
