import { encodeJson } from '../../lib/protocol/index.js'

/** Mulberry32: the same frames at each run. */
export class Dice {
  #state: number

  constructor(seed: number) {
    this.#state = seed
  }

  /** An integer from 0 up to but not including `sides`. */
  below(sides: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let x = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x
    return ((((x ^ (x >>> 14)) >>> 0) / 2 ** 32) * sides) | 0
  }

  one<T>(of: readonly T[]): T {
    return of[this.below(of.length)] as T
  }

  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.below(256)))
  }

  /** A copy with a few bytes changed, cut, repeated or put in. */
  mutated(bytes: Buffer): Buffer {
    let result: Buffer = Buffer.from(bytes)
    for (let times = 1 + this.below(3); times > 0; times--) {
      const at = this.below(result.length + 1)
      switch (this.below(5)) {
        case 0:
          if (at < result.length) result[at] = this.below(256)
          break
        case 1:
          result = result.subarray(0, at)
          break
        case 2:
          result = Buffer.concat([result.subarray(0, at), this.bytes(1 + this.below(8)), result.subarray(at)])
          break
        case 3:
          result = Buffer.concat([result.subarray(0, at), result.subarray(at, at + 20), result.subarray(at)])
          break
        case 4:
          if (at < result.length) result[at] = this.one([0, 0x22, 0x2c, 0x7b, 0x7d, 0xfc, 0xfd, 0xfe, 0xff])
          break
      }
    }
    return result
  }

  /** JSON of a wrong shape. */
  strange(depth = 0): unknown {
    switch (this.below(depth > 3 ? 8 : 10)) {
      case 0:
        return null
      case 1:
        return this.one([0, -1, 1e308, 0.1, 2 ** 53, -0])
      case 2:
        return this.one(['', '__proto__', 'a'.repeat(300), '\u0000', '\ud800', '💥', '../../etc/passwd'])
      case 3:
        return this.one([true, false])
      case 4:
      case 5:
        return []
      case 6:
      case 7:
        return {}
      case 8:
        return Array.from({ length: this.below(4) }, () => this.strange(depth + 1))
      default:
        return Object.fromEntries(
          Array.from({ length: this.below(4) }, () => [
            this.one([
              'id',
              'body',
              'requestId',
              'model',
              'messages',
              'role',
              'name',
              '__proto__',
              'constructor',
              'load',
            ]),
            this.strange(depth + 1),
          ]),
        )
    }
  }

  /** Bytes that are anything from noise to nearly right. */
  spoilt(valid: unknown): Buffer {
    switch (this.below(5)) {
      case 0:
        return this.bytes(this.below(200))
      case 1:
        return encodeJson(this.strange() ?? null)
      case 2:
        return encodeJson({ ...(valid as object), [this.one(Object.keys(valid as object))]: this.strange() })
      case 3:
        return Buffer.from(`${'['.repeat(5000)}${']'.repeat(this.below(5000))}`)
      default:
        return this.mutated(encodeJson(valid))
    }
  }
}
