package toolhost

import (
	"context"
	"encoding/json"
	"fmt"

	toolsv1 "github.com/dynamic-agents/dynamic-agents/gen/go/dynamicagents/tools/v1"
	"github.com/google/jsonschema-go/jsonschema"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
)

// Description says what a tool is. Agents name it as host/<Name>.
type Description struct {
	// Letters, digits, underscores, hyphens and dots; unique in the host.
	Name string
	// For people. Empty: the name.
	Title string
	// For people and models.
	Text string
	// JSON Schema of the arguments. Nil: made from the type of the arguments.
	InputSchema map[string]any
	// JSON Schema of the result. Nil: made from its type, unless that is a string.
	OutputSchema map[string]any
	// The tool changes nothing. A call that was lost is made again, by another host, where ReadOnly or Idempotent says so.
	ReadOnly bool
	// The same call made twice has the effect of one.
	Idempotent bool
	// A call may destroy what cannot be brought back.
	Destructive bool
	// Arguments that the tool could be called with.
	Examples []map[string]any
}

// Tool is a description with the function that does what it says. New makes one.
type Tool struct {
	described *toolsv1.HostedTool
	call      func(ctx context.Context, arguments []byte) (*toolsv1.HostCallResult, error)
}

// Call is what a handler may know of the call that it makes.
type Call struct {
	ID string
	// The same for each attempt at one call of a run, whoever makes it; empty outside of a run.
	IdempotencyKey string
	// The run, and the user that its caller named; empty outside of a run.
	ExecutionID, UserID string
	// W3C trace context; empty where nothing is traced.
	Traceparent, Tracestate string

	progress func(done, total float64, message string)
}

type callKey struct{}

// CallOf is the call that a handler was given the context for.
func CallOf(ctx context.Context) Call {
	call, _ := ctx.Value(callKey{}).(Call)
	return call
}

// Progress says how far the call of a handler's context is; a total of 0 is not known.
func Progress(ctx context.Context, done, total float64, message string) {
	if call := CallOf(ctx); call.progress != nil {
		call.progress(done, total, message)
	}
}

// New makes a tool of a function. The arguments fit the input schema. A result that is a string goes to the model as it is,
// any other as JSON. The text of an error goes to the model too: it says what to do better, and nothing that is secret.
// The context ends when nobody waits for the call any more.
func New[A, R any](is Description, handle func(ctx context.Context, arguments A) (R, error)) (Tool, error) {
	described, err := describe[A, R](is)
	if err != nil {
		return Tool{}, fmt.Errorf("tool %q: %w", is.Name, err)
	}
	call := func(ctx context.Context, given []byte) (*toolsv1.HostCallResult, error) {
		var arguments A
		if err := json.Unmarshal(given, &arguments); err != nil {
			return nil, fmt.Errorf("the arguments cannot be read: %w", err)
		}
		result, err := handle(ctx, arguments)
		if err != nil {
			return nil, err
		}
		return encode(result)
	}
	return Tool{described, call}, nil
}

// Must is for tools that are described in the program itself: it panics where New fails.
func Must(tool Tool, err error) Tool {
	if err != nil {
		panic(err)
	}
	return tool
}

func describe[A, R any](is Description) (*toolsv1.HostedTool, error) {
	input, err := schema[A](is.InputSchema)
	if err != nil {
		return nil, fmt.Errorf("input schema: %w", err)
	}
	var output *structpb.Struct
	if _, isText := any(*new(R)).(string); !isText || is.OutputSchema != nil {
		if output, err = schema[R](is.OutputSchema); err != nil {
			return nil, fmt.Errorf("output schema: %w", err)
		}
	}
	made := &toolsv1.HostedTool{
		Name: is.Name, Title: is.Title, Description: is.Text, InputSchema: input, OutputSchema: output,
		Annotations: &toolsv1.ToolAnnotations{
			ReadOnly: is.ReadOnly, Idempotent: is.Idempotent, Destructive: is.Destructive,
		},
	}
	for _, example := range is.Examples {
		one, err := structpb.NewStruct(example)
		if err != nil {
			return nil, fmt.Errorf("example: %w", err)
		}
		made.Examples = append(made.Examples, one)
	}
	return made, nil
}

func schema[T any](given map[string]any) (*structpb.Struct, error) {
	var value any = given
	if given == nil {
		derived, err := jsonschema.For[T](nil)
		if err != nil {
			return nil, err
		}
		value = derived
	}
	// By way of JSON: a Struct takes no []string and no ints.
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	made := &structpb.Struct{}
	return made, protojson.Unmarshal(text, made)
}

func encode(result any) (*toolsv1.HostCallResult, error) {
	if text, isText := result.(string); isText {
		return &toolsv1.HostCallResult{Output: text}, nil
	}
	text, err := json.Marshal(result)
	if err != nil {
		return nil, fmt.Errorf("the result cannot be written: %w", err)
	}
	data := &structpb.Value{}
	if err := protojson.Unmarshal(text, data); err != nil {
		return nil, fmt.Errorf("the result cannot be written: %w", err)
	}
	return &toolsv1.HostCallResult{StructuredOutput: data}, nil
}
