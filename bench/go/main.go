// Command load opens streams of runs and says how they went, as one line of JSON. It speaks to Execution (grpc), to what
// answers a form with server-sent events as AgentOS does (sse), and to the provider itself (openai). Pieces of text that
// are numbers are taken for the nanoseconds at which the provider sent them.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	executionv1 "github.com/dynamic-agents/dynamic-agents/gen/go/dynamicagents/execution/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
)

// run is what one stream was like; times are milliseconds from its beginning.
type run struct {
	FirstEvent float64   `json:"first_event"`
	FirstText  float64   `json:"first_text"`
	Total      float64   `json:"total"`
	Events     int       `json:"events"`
	Characters int       `json:"characters"`
	Delays     []float64 `json:"delays"`
	Error      string    `json:"error"`

	began time.Time
	ended bool
}

func (r *run) event(text string) {
	now := time.Now()
	passed := float64(now.Sub(r.began).Microseconds()) / 1e3
	if r.Events++; r.Events == 1 {
		r.FirstEvent = passed
	}
	if text == "" {
		return
	}
	if r.Characters == 0 {
		r.FirstText = passed
	}
	r.Characters += len(text)
	for _, word := range strings.Fields(text) {
		if sent, err := strconv.ParseInt(word, 10, 64); err == nil {
			r.Delays = append(r.Delays, float64(now.UnixNano()-sent)/1e3)
		}
	}
}

type stream func(ctx context.Context, r *run) error

func main() {
	log.SetFlags(0)
	kind := flag.String("to", "grpc", "grpc, watch, sse or openai")
	address := flag.String("address", "", "host:port, or the URL that is posted to")
	agent := flag.String("agent", "helper", "of Execution")
	input := flag.String("input", "chunks-200", "what is asked")
	runs := flag.Int("runs", 1, "streams in all")
	atOnce := flag.Int("at-once", 0, "streams at the same time; 0 for all")
	rate := flag.Float64("rate", 0, "streams begun a second, whatever became of those before; 0 for no such rule")
	connections := flag.Int("connections", 16, "connections of gRPC")
	characters := flag.Int("characters", 0, "of a whole answer; 0 for any number")
	execution := flag.String("execution", "", "the execution that watch reads")
	after := flag.Int64("after", 0, "the last event that watch has")
	flag.Parse()

	var one stream
	switch *kind {
	case "grpc":
		one = executing(*address, *connections, *agent, *input)
	case "watch":
		one = watching(*address, *execution, *after)
	case "sse":
		form := url.Values{"message": {*input}, "stream": {"true"}}
		one = posting(*address, "application/x-www-form-urlencoded", form.Encode(), ofAgent)
	case "openai":
		body := fmt.Sprintf(`{"model":"any","stream":true,"messages":[{"role":"user","content":%q}]}`, *input)
		one = posting(*address, "application/json", body, ofProvider)
	default:
		log.Fatalf("-to %s is none of grpc, watch, sse, openai", *kind)
	}
	began := time.Now()
	found := load(one, *runs, *atOnce, *rate)
	for n := range found {
		if r := &found[n]; r.Error == "" && *characters > 0 && r.Characters != *characters {
			r.Error = fmt.Sprintf("%d of %d characters", r.Characters, *characters)
		}
	}
	out := map[string]any{"seconds": time.Since(began).Seconds(), "runs": found}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		log.Fatal(err)
	}
}

func load(one stream, runs, atOnce int, rate float64) []run {
	if atOnce == 0 {
		atOnce = runs
	}
	found := make([]run, runs)
	room := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	began := time.Now()
	for n := range found {
		if rate > 0 {
			time.Sleep(time.Until(began.Add(time.Duration(float64(n) / rate * float64(time.Second)))))
		}
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
			defer cancel()
			r := &found[n]
			r.began = time.Now()
			if err := one(ctx, r); err != nil {
				r.Error = err.Error()
			} else if !r.ended {
				r.Error = "it ended without its end"
			}
			r.Total = float64(time.Since(r.began).Microseconds()) / 1e3
		})
	}
	all.Wait()
	return found
}

func connected(address string) *grpc.ClientConn {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if !conn.WaitForStateChange(ctx, state) {
			log.Fatalf("%s does not answer", address)
		}
	}
	return conn
}

func executing(address string, connections int, agent, input string) stream {
	clients := make(chan executionv1.ExecutionServiceClient, connections)
	for range connections {
		clients <- executionv1.NewExecutionServiceClient(connected(address))
	}
	asked := &executionv1.ExecuteRequest{
		Target: &executionv1.ExecuteRequest_AgentId{AgentId: agent}, Input: input,
		OnDisconnect: executionv1.OnDisconnect_ON_DISCONNECT_CANCEL,
	}
	return func(ctx context.Context, r *run) error {
		client := <-clients
		clients <- client
		read, err := client.ExecuteStream(ctx, asked)
		if err != nil {
			return err
		}
		for {
			event, err := read.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			r.event(event.GetContentDelta().GetText())
			r.ended = event.GetExecutionCompleted() != nil
			if failed := event.GetExecutionFailed(); failed != nil {
				return errors.New(failed.GetError().GetMessage())
			}
		}
	}
}

// watching opens a connection of its own and waits for the first event.
func watching(address, execution string, after int64) stream {
	asked := &executionv1.WatchExecutionRequest{ExecutionId: execution, AfterSequence: after}
	return func(ctx context.Context, r *run) error {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		defer conn.Close()
		read, err := executionv1.NewExecutionServiceClient(conn).WatchExecution(ctx, asked)
		if err != nil {
			return err
		}
		answer, err := read.Recv()
		if err != nil {
			return err
		}
		r.event(answer.GetEvent().GetContentDelta().GetText())
		r.ended = true
		return nil
	}
}

// posting sends the body and reads server-sent events, the text of each by `text`.
func posting(address, kind, body string, text func([]byte, *run) (string, error)) stream {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2000}}
	return func(ctx context.Context, r *run) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(body))
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", kind)
		answer, err := client.Do(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			said, _ := io.ReadAll(answer.Body)
			return fmt.Errorf("%s: %s", answer.Status, said)
		}
		lines := bufio.NewScanner(answer.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
			if !ok {
				continue
			}
			said, err := text(data, r)
			if err != nil {
				return err
			}
			r.event(said)
		}
		return lines.Err()
	}
}

func ofAgent(data []byte, r *run) (string, error) {
	var event struct {
		Event   string `json:"event"`
		Content any    `json:"content"`
	}
	if err := json.Unmarshal(data, &event); err != nil {
		return "", err
	}
	content, _ := event.Content.(string)
	switch event.Event {
	case "RunContent":
		return content, nil
	case "RunCompleted":
		r.ended = true
	case "RunError":
		return "", errors.New(content)
	}
	return "", nil
}

func ofProvider(data []byte, r *run) (string, error) {
	if bytes.Equal(data, []byte("[DONE]")) {
		r.ended = true
		return "", nil
	}
	var chunk struct {
		Choices []struct {
			Delta struct {
				Content string `json:"content"`
			} `json:"delta"`
		} `json:"choices"`
	}
	if err := json.Unmarshal(data, &chunk); err != nil || len(chunk.Choices) == 0 {
		return "", err
	}
	return chunk.Choices[0].Delta.Content, nil
}
