import { refuse } from './bodies.js'

/** What llama-server's clients send about sampling that the engine does not do. */

/** Each with the values by which it is off: many clients send all that they know. */
const ABSENT: Readonly<Record<string, (value: unknown) => boolean>> = {
  mirostat: isZero,
  typical_p: (value) => Number(value) >= 1,
  tfs_z: (value) => Number(value) >= 1,
  top_n_sigma: (value) => Number(value) <= 0,
  dynatemp_range: isZero,
  dry_multiplier: isZero,
  xtc_probability: isZero,
  min_keep: isZero,
  n_indent: isZero,
  n_probs: isZero,
  t_max_predict_ms: (value) => Number(value) <= 0,
  lora: (value) => Array.isArray(value) && value.length === 0,
  samplers: isOwnOrder,
}

const WHY: Readonly<Record<string, string>> = {
  n_probs: 'use logprobs and, for chats, top_logprobs',
  samplers:
    'the engine samples by top_k, top_p, min_p and temperature, in this order; leave it out, or name these in it',
  min_keep: 'the engine has no such bound; leave it out',
  n_indent: 'the engine does not look at indentation; leave it out',
  t_max_predict_ms: 'an answer is bounded by its tokens, not by time; leave it out',
  lora: 'adapters are not loaded here; leave it out',
}

/** As the engine has them, and as letters, llama-server's other way to write them. */
const ORDER = ['top_k', 'top_p', 'min_p', 'temperature']
const LETTERS: Readonly<Record<string, string>> = { k: 'top_k', p: 'top_p', m: 'min_p', t: 'temperature' }
/** Those that are off unless a field of their own switches them on. */
const OFF_BY_DEFAULT = new Set([
  'penalties',
  'dry',
  'top_n_sigma',
  'typ_p',
  'typical_p',
  'xtc',
  'e',
  'd',
  's',
  'y',
  'x',
])

/** @throws MeshError BAD_REQUEST naming a parameter that would change the answer, and is not there */
export function refuseSamplers(body: Record<string, unknown>): void {
  for (const [param, isOff] of Object.entries(ABSENT)) {
    const value = body[param]
    if (value === undefined || value === null || value === false || isOff(value)) continue
    refuse(param, WHY[param] ?? 'the engine has no such sampler; leave it out')
  }
}

function isZero(value: unknown): boolean {
  return value === 0
}

function isOwnOrder(value: unknown): boolean {
  if (typeof value !== 'string' && !Array.isArray(value)) return false
  if (value.length > 100) return false
  const names = [...value].filter((name) => !OFF_BY_DEFAULT.has(String(name)))
  return names.map((name) => LETTERS[String(name)] ?? String(name)).join() === ORDER.join()
}
