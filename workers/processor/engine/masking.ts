import type { Llama, LlamaContext, LlamaModel } from 'node-llama-cpp'
import { MeshError } from '../../../lib/errors/index.js'
import { hasBit, type Matcher } from './grammar/index.js'
import {
  inPlaceOfGrammar,
  type NativeContext,
  type NativeSampler,
  nativeContext,
  nativeSamplerClass,
  type Sampled,
  setNativeSamplerClass,
  setSampleToken,
} from './llama-internals.js'

/**
 * Grammars without llama.cpp's own, whose time for one token nothing bounds. A token is sampled from all; where the
 * grammar does not let it through, it is sampled again from those that it does.
 */

/** Keeps one generation to its grammar. */
export class Mask {
  readonly #matcher: () => Matcher | undefined
  /** Why no token could be given. */
  failure: MeshError | undefined

  /** @param matcher the grammar for the next token; undefined where any token will do */
  constructor(matcher: () => Matcher | undefined) {
    this.#matcher = matcher
  }

  get matcher(): Matcher | undefined {
    return this.#matcher()
  }
}

/** In the sampler's configuration, for a token that may not be. */
const NEVER = Number.NEGATIVE_INFINITY
/** What the library takes for: there is no token. The generation that asked fails, and no other. */
const NO_TOKEN = -1

/** Lets the generations of this context be masked, by what `maskOption` gives. */
export function useMasks(context: LlamaContext, llama: Llama): void {
  const native = nativeContext(context)
  const sampleToken: NativeContext['sampleToken'] = native.sampleToken.bind(native)
  const Sampler = nativeSamplerClass(llama)

  class MaskableSampler extends Sampler {
    mask: Mask | undefined
    #config: Record<string, unknown> = {}

    override applyConfig({ grammarEvaluationState, ...config }: Record<string, unknown>): void {
      this.mask = grammarEvaluationState instanceof Mask ? grammarEvaluationState : undefined
      this.#config = config
      super.applyConfig(config)
    }

    /** Until the next configuration only these tokens are sampled. */
    only(allowed: Uint8Array, count: number): void {
      super.applyConfig({ ...this.#config, ...onlyBiases(this.#config, allowed, count) })
    }
  }

  const masked = async (index: number, sampler: MaskableSampler, mask: Mask, matcher: Matcher): Promise<number> => {
    const first = tokenOf(await sampleToken(index, sampler))
    try {
      if (first < 0 || matcher.take(first)) return first
      sampler.only(matcher.allowed(), matcher.tokenCount)
      const second = tokenOf(await sampleToken(index, sampler))
      if (matcher.take(second)) return second
      mask.failure = MeshError.ENGINE_FAILED('No token could be sampled that the grammar lets through')
    } catch (err) {
      mask.failure = MeshError.from(err, 'ENGINE_FAILED', 'The grammar could not be followed')
    }
    return NO_TOKEN
  }

  setNativeSamplerClass(llama, MaskableSampler)
  setSampleToken(native, (index, sampler: NativeSampler, ...options) => {
    const mask = sampler instanceof MaskableSampler ? sampler.mask : undefined
    const matcher = mask?.matcher
    if (mask === undefined || matcher === undefined || !(sampler instanceof MaskableSampler)) {
      return sampleToken(index, sampler, ...options)
    }
    return masked(index, sampler, mask, matcher)
  })
}

/** The option with which a generation is masked. */
export function maskOption(model: LlamaModel, mask: Mask) {
  return inPlaceOfGrammar(model, mask)
}

function tokenOf(sampled: number | Sampled): number {
  return typeof sampled === 'number' ? sampled : sampled[0]
}

/** The biases that a configuration has already, without those of tokens that may not be, and these at minus infinity. */
function onlyBiases(config: Readonly<Record<string, unknown>>, allowed: Uint8Array, count: number) {
  const { tokenBiasKeys, tokenBiasValues } = config
  const keys = new Uint32Array(count)
  const values = new Float32Array(count)
  let size = 0
  for (let token = 0; token < count; token++) {
    if (hasBit(allowed, token)) continue
    keys[size] = token
    values[size++] = NEVER
  }
  if (tokenBiasKeys instanceof Uint32Array && tokenBiasValues instanceof Float32Array) {
    for (const [i, token] of tokenBiasKeys.entries()) {
      if (!hasBit(allowed, token)) continue
      keys[size] = token
      values[size++] = tokenBiasValues[i] ?? 0
    }
  }
  return { tokenBiasKeys: keys.subarray(0, size), tokenBiasValues: values.subarray(0, size) }
}
