// Command openai asks the Router's HTTP door with OpenAI's own client.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

func main() {
	log.SetFlags(0)
	url := flag.String("url", "http://127.0.0.1:8080/v1", "base URL of the door")
	flag.Parse()
	client := openai.NewClient(option.WithBaseURL(*url), option.WithAPIKey("any"), option.WithMaxRetries(0))
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()

	for _, step := range []struct {
		name string
		do   func(context.Context, openai.Client) error
	}{
		{"whole", whole},
		{"stream", stream},
		{"tools", tools},
		{"models", models},
		{"error", unknownModel},
	} {
		fmt.Printf("== %s\n", step.name)
		if err := step.do(ctx, client); err != nil {
			log.Fatalf("%s: %v", step.name, err)
		}
	}
	fmt.Println("== done")
}

func asking(model string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model:    model,
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Hello")},
	}
}

func whole(ctx context.Context, client openai.Client) error {
	answer, err := client.Chat.Completions.New(ctx, asking("gpt"))
	if err != nil {
		return err
	}
	fmt.Println(answer.Choices[0].Message.Content, answer.Choices[0].FinishReason, answer.Usage.TotalTokens)
	return nil
}

func stream(ctx context.Context, client openai.Client) error {
	params := asking("gpt")
	params.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}
	answer, err := read(ctx, client, params)
	if err != nil {
		return err
	}
	fmt.Println(answer.Choices[0].Message.Content, answer.Choices[0].FinishReason, answer.Usage.TotalTokens)
	return nil
}

func tools(ctx context.Context, client openai.Client) error {
	params := asking("tools")
	params.Tools = []openai.ChatCompletionToolUnionParam{
		openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{
			Name:       "calculator",
			Parameters: openai.FunctionParameters{"type": "object", "properties": map[string]any{}},
		}),
	}
	answer, err := read(ctx, client, params)
	if err != nil {
		return err
	}
	for _, call := range answer.Choices[0].Message.ToolCalls {
		fmt.Println(call.ID, call.Function.Name, call.Function.Arguments)
	}
	return nil
}

func read(ctx context.Context, client openai.Client, params openai.ChatCompletionNewParams) (*openai.ChatCompletion, error) {
	answer := openai.ChatCompletionAccumulator{}
	chunks := client.Chat.Completions.NewStreaming(ctx, params)
	for chunks.Next() {
		if !answer.AddChunk(chunks.Current()) {
			return nil, errors.New("a chunk does not belong to the answer")
		}
	}
	return &answer.ChatCompletion, chunks.Err()
}

func models(ctx context.Context, client openai.Client) error {
	page, err := client.Models.List(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, model := range page.Data {
		names = append(names, model.ID)
	}
	fmt.Println(strings.Join(names, " "))
	return nil
}

func unknownModel(ctx context.Context, client openai.Client) error {
	_, err := client.Chat.Completions.New(ctx, asking("nobody"))
	var refused *openai.Error
	if !errors.As(err, &refused) {
		return fmt.Errorf("no error of the API: %w", err)
	}
	fmt.Println(refused.StatusCode, refused.Code)
	return nil
}
