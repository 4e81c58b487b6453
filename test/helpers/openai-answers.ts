import type { ChatCompletion, ChatCompletionChunk } from 'openai/resources/chat/completions'
import type { Completion } from 'openai/resources/completions'
import type { CreateEmbeddingResponse } from 'openai/resources/embeddings'
import type { Model } from 'openai/resources/models'
import type { Response, ResponseItem, ResponseStreamEvent } from 'openai/resources/responses/responses'
import type { ErrorObject } from 'openai/resources/shared'

/** Everything that the door answers, as OpenAI's own package has it: its types are made of OpenAI's API description. */
export interface OpenAiAnswers {
  'chat-completion': ChatCompletion
  'chat-completion-chunk': ChatCompletionChunk
  'text-completion': Completion
  'embedding-list': CreateEmbeddingResponse
  'model-list': { object: 'list'; data: Model[] }
  model: Model
  response: Response
  'response-event': ResponseStreamEvent
  'input-items': {
    object: 'list'
    data: ResponseItem[]
    first_id: string | null
    last_id: string | null
    has_more: boolean
  }
  error: { error: ErrorObject }
}
