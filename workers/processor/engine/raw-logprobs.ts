import type { Llama, LlamaContext, LlamaModel } from 'node-llama-cpp'
import {
  type LogitFilter,
  type NativeContext,
  type NativeSampler,
  nativeContext,
  nativeModel,
  nativeSamplerClass,
  type Sampled,
  type SampleOptions,
  setSampleToken,
} from './llama-internals.js'
import { MOST_ALTERNATIVES } from './logprobs.js'

/** How the library asks for logits: of these tokens, of the likeliest, and the sum of all weights. */
type LogitsAsked = [probabilities: false, confidence: false, logits: LogitFilter, weight: true]

/**
 * The distribution that the model itself gave, beside each token that is sampled from it. What the library offers is
 * what the sampling chain has left: after biases, penalties, the grammar and truncation. So where a generation asks for
 * probabilities, the same logits are read a second time, through samplers that change nothing, and the result takes the
 * place of the library's own. The tests compare what comes out with a softmax over all logits.
 * The logits of a prompt's tokens are asked for with a filter: there the library would sort the whole vocabulary, and the
 * same two samplers do without.
 */

/** Two samplers that leave logits as they are. Each may serve one token at a time. */
interface Probe {
  /** Keeps all tokens. */
  all: NativeSampler
  /** Keeps the likeliest. */
  top: NativeSampler
}

/**
 * `evaluateWithMetadata` of this context gives log-probabilities as `probabilities` from now on, most likely first, and
 * `controlledEvaluate` what it is asked for by a filter for logits and their weight, the likeliest first.
 */
export function useRawLogprobs(context: LlamaContext, model: LlamaModel, llama: Llama): void {
  const native = nativeContext(context)
  const Sampler = nativeSamplerClass(llama)
  const probes: Probe[] = []
  const newProbe = (): Probe => {
    const all = new Sampler(nativeModel(model))
    all.applyConfig({ temperature: 0 })
    const top = new Sampler(nativeModel(model))
    top.applyConfig({ temperature: 1, topK: MOST_ALTERNATIVES, seed: 0 })
    return { all, top }
  }
  const sampleToken: NativeContext['sampleToken'] = native.sampleToken.bind(native)
  const sampleWithLogprobs = async (index: number, sampler: NativeSampler): Promise<Sampled> => {
    const [token] = partsOf(await sampleToken(index, sampler))
    if (token < 0) return [token]
    const probe = probes.pop() ?? newProbe()
    try {
      const [, , , chosen = [], weight = 1] = partsOf(
        await sampleToken(index, probe.all, false, false, [[token], false, false, false, 0], true),
      )
      const [, , , top = []] = partsOf(
        await sampleToken(index, probe.top, false, false, [[], false, false, false, MOST_ALTERNATIVES]),
      )
      const scale = (top[1] ?? 0) + Math.log(weight)
      const pairs = [...top, ...chosen]
      return [token, pairs.map((value, i) => (i % 2 === 0 ? value : value - scale))]
    } finally {
      probes.push(probe)
    }
  }
  /** The token that is selected is the likeliest. (Where the library is asked for the highest, it leaves it out.) */
  const logitsOf = async (index: number, [tokens, , , selected, most]: LogitFilter): Promise<Sampled> => {
    const probe = probes.pop() ?? newProbe()
    try {
      const [token, , , chosen = [], weight = 1] = partsOf(
        await sampleToken(index, probe.all, false, false, [tokens, false, false, selected, 0], true),
      )
      if (most === 0) return [token, undefined, undefined, chosen, weight]
      const [, , , top = []] = partsOf(
        await sampleToken(index, probe.top, false, false, [[], false, false, false, Math.min(most, MOST_ALTERNATIVES)]),
      )
      return [token, undefined, undefined, [...top, ...chosen], weight]
    } finally {
      probes.push(probe)
    }
  }
  const tapped: NativeContext['sampleToken'] = (index, sampler, ...options) => {
    if (options[0] === true) return sampleWithLogprobs(index, sampler)
    return asksForLogits(options) ? logitsOf(index, options[2]) : sampleToken(index, sampler, ...options)
  }
  setSampleToken(native, tapped)
}

function asksForLogits(options: SampleOptions): options is LogitsAsked {
  const [probabilities, confidence, logits, weight] = options
  return probabilities === false && confidence === false && Array.isArray(logits) && weight === true
}

function partsOf(sampled: number | Sampled): Sampled {
  return typeof sampled === 'number' ? [sampled] : sampled
}
