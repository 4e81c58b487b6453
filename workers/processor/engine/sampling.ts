import { randomInt } from 'node:crypto'
import type { LlamaModel, SequenceEvaluateOptions, Token } from 'node-llama-cpp'
import type { Sampling } from '../../../lib/protocol/index.js'
import { type Mask, maskOption } from './masking.js'
import type { Slot } from './slots.js'
import { logitBiasFor } from './vocabulary.js'

/** llama.cpp's own defaults. */
const DEFAULTS = { temperature: 0.8, topK: 40, topP: 0.95, minP: 0.05 } as const
/** How far back the penalties look where a request does not say. */
const PENALTY_TOKENS = 256

/**
 * A request's sampling as the library takes it.
 * @param generated the answer so far, which the penalties read as it grows
 * @param never tokens that may not be chosen
 * @throws MeshError BAD_REQUEST where a biased token is not in the vocabulary
 */
export function samplerOptions(
  model: LlamaModel,
  sampling: Sampling,
  slot: Slot,
  mask: Mask | undefined,
  generated: readonly Token[],
  never: readonly Token[] = [],
): SequenceEvaluateOptions {
  const options: SequenceEvaluateOptions = {
    temperature: sampling.temperature ?? DEFAULTS.temperature,
    topK: sampling.topK ?? DEFAULTS.topK,
    topP: sampling.topP ?? DEFAULTS.topP,
    minP: sampling.minP ?? DEFAULTS.minP,
    // The library's own default is the time in seconds: two requests of one second would give the same answer.
    seed: sampling.seed ?? randomInt(2 ** 32),
    evaluationPriority: slot.priority,
    grammarEvaluationState: mask && maskOption(model, mask),
  }
  const { repeatPenalty = 1, presencePenalty = 0, frequencyPenalty = 0, repeatLastN = PENALTY_TOKENS } = sampling
  if (repeatLastN > 0 && (repeatPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0)) {
    options.repeatPenalty = {
      penalty: repeatPenalty,
      presencePenalty,
      frequencyPenalty,
      punishTokens: () => generated.slice(-repeatLastN),
    }
  }
  if (sampling.logitBias !== undefined || never.length > 0) {
    options.tokenBias = logitBiasFor(model, sampling.logitBias ?? {}, never)
  }
  return options
}
