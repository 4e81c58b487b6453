import type { z } from 'zod'
import { errorContent, type Json, jsonContent, jsonSchema, type OpenApiPart, ref } from '../http/index.js'
import {
  chatBodySchema,
  completionBodySchema,
  embeddingBodySchema,
  metadataBodySchema,
  responseBodySchema,
} from './bodies.js'
import { detokenizeBodySchema, tokenizeBodySchema } from './token-bodies.js'

const body = (schema: z.ZodType): Json => jsonSchema(schema, 'input')
const failure = { description: 'What went wrong', content: errorContent }
const any: Json = { type: 'object' }
const object = (kind: string): Json => ({ type: 'object', properties: { object: { const: kind } } })

function answer(description: string, schema: Json, streams = false): Json {
  const content = { ...jsonContent(schema), ...(streams && { 'text/event-stream': { schema: { type: 'string' } } }) }
  return { responses: { 200: { description, content }, default: failure } }
}

function post(summary: string, body: string, answers: Json): Json {
  return { summary, tags: ['OpenAI'], requestBody: { required: true, content: jsonContent(ref(body)) }, ...answers }
}

function get(summary: string, answers: Json): Json {
  return { summary, tags: ['OpenAI'], ...answers }
}

const idParameter = [{ name: 'id', in: 'path', required: true, schema: { type: 'string' } }]

/** What the OpenAI door adds to the OpenAPI document. Made anew at each call. */
export const openAiPart = (): OpenApiPart => ({
  paths: {
    '/v1/chat/completions': {
      post: post('Answers a conversation', 'ChatBody', answer('The answer', object('chat.completion'), true)),
      get: get('The stored chats, in pages', answer('The chats', object('list'))),
    },
    '/v1/chat/completions/{id}': {
      parameters: idParameter,
      get: get('A stored chat', answer('The chat', object('chat.completion'))),
      post: post('Replaces its metadata', 'MetadataBody', answer('The chat', object('chat.completion'))),
      delete: get('Deletes a stored chat', answer('That it is deleted', object('chat.completion.deleted'))),
    },
    '/v1/chat/completions/{id}/messages': {
      parameters: idParameter,
      get: get('What was sent for a stored chat, in pages', answer('The messages', object('list'))),
    },
    '/v1/completions': {
      post: post('Continues texts', 'CompletionBody', answer('The continuations', object('text_completion'), true)),
    },
    '/v1/embeddings': { post: post('Vectors of texts', 'EmbeddingBody', answer('The vectors', object('list'))) },
    '/v1/models': { get: get('The models that the key may use', answer('The models', object('list'))) },
    '/v1/models/{id}': {
      parameters: idParameter,
      get: get('One model; its id may have slashes', answer('The model', object('model'))),
    },
    '/v1/responses': {
      post: post(
        'Answers, and keeps the answer for a while',
        'ResponseBody',
        answer('The answer', object('response'), true),
      ),
    },
    '/v1/responses/input_tokens': {
      post: post(
        'Counts the tokens of a response’s prompt',
        'ResponseBody',
        answer('How many', object('response.input_tokens')),
      ),
    },
    '/v1/tokenize': {
      post: post('The tokens of a text, as llama-server tells them', 'TokenizeBody', answer('The tokens', any)),
    },
    '/v1/detokenize': { post: post('The text of tokens', 'DetokenizeBody', answer('The text', any)) },
    '/v1/apply-template': { post: post('A conversation as its model reads it', 'ChatBody', answer('The prompt', any)) },
    '/v1/responses/{id}': {
      parameters: idParameter,
      get: get('A response that is still kept', answer('The response', object('response'))),
      delete: get('Forgets a response', answer('That it is forgotten', object('response'))),
    },
    '/v1/responses/{id}/cancel': {
      parameters: idParameter,
      post: {
        summary: 'Ends a response that is made in the background',
        tags: ['OpenAI'],
        ...answer('The response', object('response')),
      },
    },
    '/v1/responses/{id}/input_items': {
      parameters: idParameter,
      get: get('What was sent with a response', answer('The items', object('list'))),
    },
  },
  schemas: {
    ChatBody: body(chatBodySchema),
    CompletionBody: body(completionBodySchema),
    EmbeddingBody: body(embeddingBodySchema),
    ResponseBody: body(responseBodySchema),
    MetadataBody: body(metadataBodySchema),
    TokenizeBody: body(tokenizeBodySchema),
    DetokenizeBody: body(detokenizeBodySchema),
  },
})
