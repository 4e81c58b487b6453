export {
  type ErrorBody,
  type ErrorCode,
  type ErrorDetails,
  isDiskFull,
  MeshError,
  messageOf,
  oneLine,
  printable,
  systemCode,
} from '../errors/index.js'
export { type Admission, admissionCode, commitmentTo, newNonce, readCode } from './admission.js'
export { decodeConnectString, encodeConnectString, isConnectString, noApiKey } from './connect.js'
export { credentialIn, hasCredential, KEY_HEADERS } from './credentials.js'
export { check } from './faults.js'
export {
  AnswerCollector,
  addCallPiece,
  decodeAsk,
  encodeAsk,
  type GenerateAsk,
  type GenerateEvent,
  type GenerateInput,
  queuedSchema,
  readGeneration,
  startedSchema,
  type TokenBatch,
  type ToolCallDelta,
  tokenBatchSchema,
} from './generation.js'
export {
  CLIENT_HELLO,
  type Hello,
  helloSchema,
  openHello,
  type Report,
  readGoodbye,
  reportSchema,
} from './hello.js'
export {
  bearerCredential,
  CONNECTION_HEADERS,
  EMBEDDINGS_FACTOR,
  type ErrorAnswer,
  errorAnswerOf,
  type HttpCode,
  isLoopbackHost,
  isOpenAiPath,
  isOwnHost,
  MAX_BODY_BYTES,
  noRequestAnswer,
  type OpenAiError,
} from './http.js'
export {
  decodeKey,
  encodedKeySchema,
  encodeKey,
  hashSecret,
  loginKeyId,
  loginUserOf,
  MAX_CREDENTIAL_CHARS,
  modelNameSchema,
  nameSchema,
  newApiKey,
  newRequestId,
  PROTOCOL_VERSION,
  parseApiKey,
  requestIdSchema,
  secretMatches,
} from './ids.js'
export {
  type ChatMessage,
  chatMessageSchema,
  type Echoed,
  type EmbeddingRequest,
  type EmbeddingResult,
  embeddingRequestSchema,
  type Finish,
  type FinishReason,
  finishSchema,
  type InferenceInput,
  type InferenceRequest,
  type InferenceResult,
  inferenceRequestSchema,
  MAX_PENALTY_TOKENS,
  type OutputFormat,
  type PromptLogprob,
  type Route,
  type Sampling,
  type Timing,
  type TokenLogprob,
  type Tool,
  type ToolCall,
  type ToolChoice,
  type Usage,
} from './inference.js'
export { decodeInvite, encodeInvite, type InviteText } from './invite.js'
export { encodeJson, jsonFault, parseJson, REQUEST_BOUNDS } from './json.js'
export { type Gpu, type Load, type ModelLoad, type WorkerStatus, type WorkerView, workerStatusSchema } from './load.js'
export {
  type ApiKeyInfo,
  type Confirmation,
  type InviteInfo,
  keyUseSchema,
  type MemberInfo,
  type UserInfo,
} from './management.js'
export type { Access, Caller } from './method.js'
export {
  type InputOf,
  type LimitUse,
  MAX_FACT_CHARS,
  type MethodName,
  methods,
  type RequestOf,
  type ResponseOf,
} from './methods.js'
export { endPage, newestFirst, type Page, type PageRequest, pageOf } from './page.js'
export {
  bootstrapNodeSchema,
  isLoopback,
  isSameNetwork,
  LOOPBACK,
  MAX_NODES,
  type MemberNode,
  type MeshProfile,
  memberNodeSchema,
  meshProfileSchema,
  type NetworkKind,
  networkKindSchema,
  networkSchema,
  nodesSchema,
  nodeText,
} from './profile.js'
export {
  type ApiKey,
  type AuditEntry,
  addUsage,
  apiKeySchema,
  auditEntrySchema,
  type BudgetPeriod,
  defaultModelSchema,
  type Invite,
  inviteSchema,
  type JournalRecord,
  journalGroupSchema,
  type Limits,
  limitsSchema,
  MAX_APPROVED,
  type Member,
  type Model,
  memberSchema,
  modelSchema,
  NO_USAGE,
  ROLES,
  type Role,
  roleSchema,
  type StoredRecord,
  storedRecordSchema,
  type UsageCheck,
  type UsageDimension,
  type UsageRow,
  type UsageSum,
  type UsageTotals,
  type User,
  usageOf,
  usageRowSchema,
  usageTotalsSchema,
  userSchema,
} from './records.js'
export { DEFAULT_SCOPES, SCOPES, type Scope, scopesOf, type UserRole } from './scopes.js'
export {
  MAX_LIVE_BYTES,
  MAX_PIECE_BYTES,
  type StoredObject,
  type StoredPart,
  type StoredView,
  storedObjectSchema,
} from './stored.js'
export { plainText } from './text.js'
export { isToken, signToken, TOKEN_MS, TokenVerifier } from './token.js'
export { MAX_TOLD_TOKENS, type TokenPiece, type TokensRequest, type TokensResult } from './tokens.js'
export { validate } from './validate.js'
