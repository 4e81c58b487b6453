import type { LlamaContext, LlamaModel } from 'node-llama-cpp'
import { MOST_ALTERNATIVES } from './logprobs.js'

/**
 * The distribution that the model itself gave, beside each token that is sampled from it. What the library offers is
 * what the sampling chain has left: after biases, penalties, the grammar and truncation. So where a generation asks for
 * probabilities, the same logits are read a second time, through samplers that change nothing, and the result takes the
 * place of the library's own. This goes through members that the library does not declare; it is pinned, and the tests
 * compare what comes out with a softmax over all logits.
 */

/** Filter for the logits that come back: these tokens, the highest, the lowest, the sampled one, so many of the top. */
type LogitFilter = [tokens: number[], max: boolean, min: boolean, sampled: boolean, top: number]
/** [token, probabilities, confidence, logits as token and value in turn, sum of exp(logit - highest logit)] */
type Sampled = [token: number, undefined?, undefined?, logits?: number[], weight?: number]

interface NativeContext {
  sampleToken(
    index: number,
    sampler: NativeSampler,
    probabilities?: boolean,
    confidence?: boolean,
    logits?: LogitFilter,
    weight?: boolean,
  ): Promise<unknown>
}

interface NativeSampler {
  applyConfig(config: Record<string, number>): void
}

interface Inside {
  _ctx: NativeContext
}

interface ModelInside {
  _model: unknown
  _llama: { _bindings: { AddonSampler: new (model: unknown) => NativeSampler } }
}

/** Two samplers that leave logits as they are. Each may serve one token at a time. */
interface Probe {
  /** Keeps all tokens. */
  all: NativeSampler
  /** Keeps the likeliest. */
  top: NativeSampler
}

/** `evaluateWithMetadata` of this context gives log-probabilities as `probabilities` from now on, most likely first. */
export function tellRawLogprobs(context: LlamaContext, model: LlamaModel): void {
  const native = (context as unknown as Inside)._ctx
  const { _model, _llama } = model as unknown as ModelInside
  const probes: Probe[] = []
  const newProbe = (): Probe => {
    const all = new _llama._bindings.AddonSampler(_model)
    all.applyConfig({ temperature: 0 })
    const top = new _llama._bindings.AddonSampler(_model)
    top.applyConfig({ temperature: 1, topK: MOST_ALTERNATIVES, seed: 0 })
    return { all, top }
  }
  const sampleToken = native.sampleToken.bind(native)
  const sampleWithLogprobs = async (index: number, sampler: NativeSampler): Promise<unknown> => {
    const token = (await sampleToken(index, sampler)) as number
    if (token < 0) return [token]
    const probe = probes.pop() ?? newProbe()
    try {
      const [, , , chosen = [], weight = 1] = (await sampleToken(
        index,
        probe.all,
        false,
        false,
        [[token], false, false, false, 0],
        true,
      )) as Sampled
      const [, , , top = []] = (await sampleToken(index, probe.top, false, false, [
        [],
        false,
        false,
        false,
        MOST_ALTERNATIVES,
      ])) as Sampled
      const scale = (top[1] ?? 0) + Math.log(weight)
      const pairs = [...top, ...chosen]
      return [token, pairs.map((value, i) => (i % 2 === 0 ? value : value - scale))]
    } finally {
      probes.push(probe)
    }
  }
  const tapped: NativeContext['sampleToken'] = (index, sampler, probabilities, ...more) =>
    probabilities === true ? sampleWithLogprobs(index, sampler) : sampleToken(index, sampler, probabilities, ...more)
  // Assigning is refused: the method is the prototype's, and read-only there.
  Object.defineProperty(native, 'sampleToken', { value: tapped })
}
