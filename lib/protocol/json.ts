import { MeshError } from '../errors/index.js'

/** JSON of others: what is looked at before it is parsed, so that parsing it costs no more than its length says. */

/** Nobody nests deeper in earnest, and V8 takes longer over brackets in brackets than over anything else. */
const MAX_DEPTH = 128

/** How much structure one text may have. Parsing, checking and copying cost by these, and hardly by the length of texts. */
export interface JsonBounds {
  /** Values and containers, counted together. */
  parts: number
  /** Keys of all objects together. */
  keys: number
  /** Keys that differ. */
  names: number
}

/** What any request in good faith has: 300,000 token ids, or 10,000 messages of parts, or 128 tools with all of their schemas. */
export const REQUEST_BOUNDS: JsonBounds = { parts: 400_000, keys: 65_536, names: 16_384 }

const QUOTE = 0x22
const COMMA = 0x2c
const OPEN_LIST = 0x5b
const BACKSLASH = 0x5c
const CLOSE_LIST = 0x5d
const OPEN_OBJECT = 0x7b
const CLOSE_OBJECT = 0x7d

/**
 * Looks once over JSON, without parsing it: for nesting deeper than 128, a key that stands twice in one object (of which
 * readers take different ones), and one that would change the prototype of objects. What is no JSON may pass.
 * @returns what is wrong, in words; undefined where nothing is
 */
export function jsonFault(text: string, bounds?: JsonBounds): string | undefined {
  const { length } = text
  const above: Container[] = []
  let own: Container = { isObject: false, keys: undefined, lastKey: '' }
  let expectsKey = false
  const names = new Set<string>()
  let parts = 0
  let keys = 0
  for (let i = 0; i < length; i++) {
    switch (text.charCodeAt(i)) {
      case QUOTE: {
        const start = i
        let escaped = false
        for (i++; i < length; i++) {
          const char = text.charCodeAt(i)
          if (char === QUOTE) break
          if (char === BACKSLASH) {
            escaped = true
            i++
          }
        }
        if (!expectsKey) break
        expectsKey = false
        const key = escaped ? unescaped(text.slice(start, i + 1)) : text.slice(start + 1, i)
        own.keys ??= new Set()
        if (own.keys.has(key)) return `the key ${shown(key)} stands twice in one object`
        if (key === '__proto__' || (key === 'prototype' && above.at(-1)?.lastKey === 'constructor')) {
          return `the key ${shown(key)} would change the prototype of objects`
        }
        own.keys.add(key)
        own.lastKey = key
        if (bounds === undefined) break
        if (++keys > bounds.keys) return `it has more than ${bounds.keys} keys`
        if (names.add(key).size > bounds.names) return `it has more than ${bounds.names} different keys`
        break
      }
      case OPEN_OBJECT:
      case OPEN_LIST:
        above.push(own)
        if (above.length > MAX_DEPTH) return `it is nested deeper than ${MAX_DEPTH} levels`
        expectsKey = text.charCodeAt(i) === OPEN_OBJECT
        own = { isObject: expectsKey, keys: undefined, lastKey: '' }
        parts++
        break
      case CLOSE_OBJECT:
      case CLOSE_LIST:
        own = above.pop() ?? own
        expectsKey = false
        break
      case COMMA:
        expectsKey = own.isObject
        parts++
        if (bounds !== undefined && parts > bounds.parts) return `it has more than ${bounds.parts} values`
        break
    }
  }
  return undefined
}

/** An object or list that is open. */
interface Container {
  isObject: boolean
  /** Those of an object so far. */
  keys: Set<string> | undefined
  lastKey: string
}

/** A key as its reader gets it. */
function unescaped(literal: string): string {
  try {
    return String(JSON.parse(literal))
  } catch {
    // The parser will say so.
    return literal
  }
}

function shown(key: string): string {
  return JSON.stringify(key.slice(0, 40))
}

const utf8 = new TextDecoder('utf-8', { fatal: true })

/**
 * Parses UTF-8 JSON from the wire or a file.
 * @param bounds what a text of someone who is not trusted may have
 * @throws MeshError BAD_REQUEST, never SyntaxError
 */
export function parseJson(bytes: Uint8Array, what: string, bounds?: JsonBounds): unknown {
  try {
    const text = utf8.decode(bytes)
    const fault = jsonFault(text, bounds)
    if (fault !== undefined) throw MeshError.BAD_REQUEST(`${what} is JSON that is not read: ${fault}`)
    return JSON.parse(text)
  } catch (cause) {
    if (cause instanceof MeshError) throw cause
    throw MeshError.BAD_REQUEST(`${what} is not JSON in UTF-8`, {}, { cause })
  }
}

/** JSON in UTF-8. */
export function encodeJson(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}
