import {
  JinjaTemplateChatWrapper,
  type JinjaTemplateChatWrapperOptions,
  type Llama,
  type LlamaContext,
  LlamaGrammarEvaluationState,
  type LlamaModel,
  type Token,
  type TokenBias,
} from 'node-llama-cpp'
import { MeshError } from '../../../lib/errors/index.js'

/**
 * Everything that the engine uses of node-llama-cpp and that the library does not declare. Its version is pinned, each
 * member is looked for before it is used, and tests go through all of them.
 */

/** Filter for the logits that come back: these tokens, the highest, the lowest, the sampled one, so many of the top. */
export type LogitFilter = [tokens: number[], max: boolean, min: boolean, sampled: boolean, top: number]
export type SampleOptions = [probabilities?: boolean, confidence?: boolean, logits?: LogitFilter, weight?: boolean]
/** [token, probabilities, confidence, logits as token and value in turn, sum of exp(logit - highest logit)] */
export type Sampled = [token: number, probabilities?: number[], confidence?: number, logits?: number[], weight?: number]

export interface NativeContext {
  /** Without options it gives the token alone; -1: none could be sampled. */
  sampleToken(index: number, sampler: NativeSampler, ...options: SampleOptions): Promise<number | Sampled>
}

export interface NativeSampler {
  applyConfig(config: Record<string, unknown>): void
}

export type NativeSamplerClass = new (model: object) => NativeSampler

export interface NativeTemplate {
  render(variables: Record<string, unknown>): string
}

export function nativeContext(context: LlamaContext): NativeContext {
  return inner(context, '_ctx', (one): one is NativeContext => hasMethods(one, 'sampleToken'))
}

export function nativeModel(model: LlamaModel): object {
  return inner(model, '_model', isObject)
}

export function nativeSamplerClass(llama: Llama): NativeSamplerClass {
  return inner(inner(llama, '_bindings', isObject), 'AddonSampler', isSamplerClass)
}

/** From now on the library makes its samplers of this class. */
export function setNativeSamplerClass(llama: Llama, Sampler: NativeSamplerClass): void {
  Object.defineProperty(inner(llama, '_bindings', isObject), 'AddonSampler', { value: Sampler, configurable: true })
}

/** From now on the library samples with this. Assigning is refused: the method is the prototype's, and read-only there. */
export function setSampleToken(context: NativeContext, sampleToken: NativeContext['sampleToken']): void {
  Object.defineProperty(context, 'sampleToken', { value: sampleToken, configurable: true })
}

/** What the library takes for a grammar's state, and hands to the sampler's `applyConfig` as it is. */
export function inPlaceOfGrammar(model: LlamaModel, state: object): LlamaGrammarEvaluationState {
  const llama = inner(model, '_llama', isObject)
  return Object.create(LlamaGrammarEvaluationState.prototype, { _llama: { value: llama }, _state: { value: state } })
}

/** The library's wrapper for a template, with our own way of rendering in place of the library's. */
export function templateWrapper(
  options: JinjaTemplateChatWrapperOptions,
  renderer: NativeTemplate,
): JinjaTemplateChatWrapper {
  const inner = { _cachedJinjaEngine: { getFor: () => renderer } }
  const wrapper = new JinjaTemplateChatWrapper({ ...options, ...inner })
  if (Reflect.get(wrapper, '_jinjaTemplate') === renderer) return wrapper
  throw MeshError.ENGINE_FAILED('node-llama-cpp renders templates by itself; use the version in package.json')
}

/** The map behind a bias. The library's own setter leaves out the tokens that end an answer. */
export function biasesOf(bias: TokenBias): Map<Token, number> {
  return inner(bias, '_biases', (one): one is Map<Token, number> => one instanceof Map)
}

function inner<T>(holder: object, name: string, isIt: (value: unknown) => value is T): T {
  const value: unknown = Reflect.get(holder, name)
  if (isIt(value)) return value
  throw MeshError.ENGINE_FAILED(
    `node-llama-cpp's ${holder.constructor.name} has no ${name} as this engine knows it; use the version in package.json`,
  )
}

function isSamplerClass(value: unknown): value is NativeSamplerClass {
  return typeof value === 'function' && hasMethods(value.prototype, 'applyConfig')
}

function hasMethods(value: unknown, ...names: string[]): boolean {
  return isObject(value) && names.every((name) => typeof Reflect.get(value, name) === 'function')
}

function isObject(value: unknown): value is object {
  return (typeof value === 'object' && value !== null) || typeof value === 'function'
}
