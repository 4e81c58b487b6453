import { z } from 'zod'
import type { EmbeddingRequest } from '../../../lib/protocol/index.js'

/** What can be given as texts or as token ids: the prompts of completions, and what is embedded. */

/** Token ids of all texts of a request together, as OpenAI bounds them. */
const MAX_TOKEN_IDS = 300_000

/** Ids are numbers of 32 bits in the engine. */
const MAX_TOKEN_ID = 0xffffffff

/** One text, many, one list of token ids, or many. */
export type Texts = string | string[] | number[] | number[][]

const TEXTS = 'expected a text, texts, token ids or lists of token ids'
const idsJson = { type: 'array', items: { type: 'integer', minimum: 0 }, minItems: 1 }

/** Read by hand: a union of lists would check 300,000 ids as each of its kinds. */
export function texts(minLength: 0 | 1) {
  const textsJson = { type: 'string', minLength }
  return z
    .unknown()
    .transform((value, { addIssue }): Texts => {
      const read = textsOf(value, minLength)
      if ('texts' in read) return read.texts
      addIssue({ code: 'custom', message: read.fault, path: read.path })
      return z.NEVER
    })
    .meta({
      anyOf: [
        textsJson,
        { type: 'array', items: textsJson, minItems: 1 },
        idsJson,
        { type: 'array', items: idsJson, minItems: 1 },
      ],
    })
}

type Read = { texts: Texts } | { fault: string; path: number[] }

function textsOf(value: unknown, minLength: 0 | 1): Read {
  const isText = (one: unknown): boolean => typeof one === 'string' && one.length >= minLength
  const wanted = minLength === 0 ? `${TEXTS}, no list of them empty` : `${TEXTS}, none of them empty`
  if (typeof value === 'string' && isText(value)) return { texts: value }
  if (!Array.isArray(value) || value.length === 0) return { fault: wanted, path: [] }
  const members: unknown[] = value
  const ids = members.reduce<number>((sum, one) => sum + (Array.isArray(one) ? one.length : 1), 0)
  if (ids > MAX_TOKEN_IDS) return { fault: `${ids} texts or token ids; at most ${MAX_TOKEN_IDS} at a time`, path: [] }
  const kinds = [isText, isTokenId, isTokenIds]
  const isOne = kinds.find((kind) => kind(members[0])) ?? isText
  const wrong = members.findIndex((one) => !isOne(one))
  if (wrong !== -1) return { fault: wanted, path: [wrong] }
  return largeId(members) ?? { texts: value }
}

/** The first id that no model can have, with its place. */
function largeId(members: readonly unknown[]): Read | undefined {
  const fault = `expected token ids of at most ${MAX_TOKEN_ID}`
  const isLarge = (one: unknown): boolean => typeof one === 'number' && one > MAX_TOKEN_ID
  for (const [at, member] of members.entries()) {
    if (isLarge(member)) return { fault, path: [at] }
    const inside = Array.isArray(member) ? member.findIndex(isLarge) : -1
    if (inside !== -1) return { fault, path: [at, inside] }
  }
  return undefined
}

export const isTokenId = (one: unknown): boolean => typeof one === 'number' && Number.isInteger(one) && one >= 0
const isTokenIds = (one: unknown): boolean => Array.isArray(one) && one.length > 0 && one.every(isTokenId)

/** Texts and lists of token ids, one by one. */
export function inputsOf(given: Texts): EmbeddingRequest['input'] {
  if (typeof given === 'string') return [given]
  return isOneList(given) ? [given] : given
}

/** Whether there is one text or list of token ids, which stands in no list. */
export function isSingle(given: Texts): boolean {
  return typeof given === 'string' || isOneList(given)
}

function isOneList(given: Exclude<Texts, string>): given is number[] {
  return typeof given[0] === 'number'
}
