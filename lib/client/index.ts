export type { CallOptions } from '../link/index.js'
export {
  type ApiKeyInfo,
  type ChatMessage,
  type EmbeddingRequest,
  type EmbeddingResult,
  type ErrorCode,
  type ErrorDetails,
  type Finish,
  type FinishReason,
  type GenerateEvent,
  type InferenceResult,
  type InviteInfo,
  type Limits,
  type Member,
  MeshError,
  type MeshProfile,
  type Model,
  type NetworkKind,
  type OutputFormat,
  type Role,
  type Route,
  type Sampling,
  type Timing,
  type TokenBatch,
  type TokenLogprob,
  type ToolCall,
  type ToolCallDelta,
  type Usage,
  type UsageCheck,
  type UsageDimension,
  type UsageSum,
  type UserInfo,
  type WorkerView,
} from '../protocol/index.js'
export type { Admin } from './admin.js'
export { Answer } from './answer.js'
export { type ChatRequest, type CompletionRequest, MeshClient } from './client.js'
export type { MeshClientOptions } from './options.js'
