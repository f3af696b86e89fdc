package toolhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	toolsv1 "github.com/dynamic-agents/dynamic-agents/gen/go/dynamicagents/tools/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

const (
	silence = 3
	// What a message has besides its result.
	envelope = 1024
)

var (
	errLost      = errors.New("the stream of the call was lost")
	errCancelled = errors.New("nobody waits for the call any more")
)

// stream is one HostTools stream, with the calls that came on it.
type stream struct {
	*runner
	moving, over chan struct{}
	err          error

	client  toolsv1.ToolService_HostToolsClient
	sending sync.Mutex

	mutex   sync.Mutex
	cancels map[string]context.CancelCauseFunc
	calls   sync.WaitGroup
	moved   sync.Once
	most    int
}

func newStream(r *runner) *stream {
	return &stream{
		runner: r, moving: make(chan struct{}), over: make(chan struct{}),
		cancels: map[string]context.CancelCauseFunc{},
	}
}

// serve opens the stream and answers what comes, until it ends or ctx does. `over` is closed then, with the reason in `err`;
// it returns when the calls have ended, too.
func (s *stream) serve(ctx context.Context, conn grpc.ClientConnInterface) {
	// Calls in flight outlast ctx.
	lasting, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(errLost)
	drained := context.AfterFunc(ctx, func() {
		_ = s.send(&toolsv1.HostToolsRequest{Message: &toolsv1.HostToolsRequest_Drain{Drain: &toolsv1.HostDrain{}}})
		time.AfterFunc(s.DrainTimeout, func() { end(context.Cause(ctx)) })
	})
	defer drained()
	var err error
	s.sending.Lock()
	s.client, err = toolsv1.NewToolServiceClient(conn).HostTools(lasting)
	s.sending.Unlock()
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = s.read(lasting, end)
	}
	s.err = err
	end(errLost)
	close(s.over)
	s.calls.Wait()
}

func (s *stream) read(ctx context.Context, end context.CancelCauseFunc) error {
	if err := s.send(&toolsv1.HostToolsRequest{Message: &toolsv1.HostToolsRequest_Register{Register: s.registration()}}); err != nil {
		return s.receivedError(err)
	}
	silent := time.AfterFunc(time.Minute, func() { end(fmt.Errorf("nothing was heard of the server")) })
	defer silent.Stop()
	limit := time.Minute
	for {
		message, err := s.client.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch said := message.Message.(type) {
		case *toolsv1.HostToolsResponse_Registered:
			if err := s.registered(said.Registered); err != nil {
				return err
			}
			limit = silence * said.Registered.HeartbeatInterval.AsDuration()
		case *toolsv1.HostToolsResponse_Call:
			s.begin(ctx, said.Call)
		case *toolsv1.HostToolsResponse_Cancel:
			s.cancel(said.Cancel.CallId)
		case *toolsv1.HostToolsResponse_Heartbeat:
			beat := &toolsv1.HostToolsRequest_Heartbeat{Heartbeat: &toolsv1.HostHeartbeat{}}
			_ = s.send(&toolsv1.HostToolsRequest{Message: beat})
		case *toolsv1.HostToolsResponse_Draining:
			s.moved.Do(func() { close(s.moving) })
		}
		silent.Reset(limit)
	}
}

// receivedError is what the server ended the stream with: Send says no more than EOF.
func (s *stream) receivedError(sent error) error {
	if !errors.Is(sent, io.EOF) {
		return sent
	}
	for {
		if _, err := s.client.Recv(); err != nil {
			return err
		}
	}
}

func (s *stream) registration() *toolsv1.HostRegistration {
	made := &toolsv1.HostRegistration{HostId: s.ID, MaxConcurrency: int32(s.MaxConcurrency)}
	for _, tool := range s.Tools {
		made.Tools = append(made.Tools, tool.described)
	}
	return made
}

func (s *stream) registered(said *toolsv1.HostRegistered) error {
	s.most = int(said.MaxMessageBytes)
	for _, tool := range said.RejectedTools {
		s.Logger.Error("tool rejected", "tool", tool.Name, "field", tool.Field, "reason", tool.Reason)
	}
	if len(said.RejectedTools) > 0 && !s.AllowRejected {
		first := said.RejectedTools[0]
		return fmt.Errorf("%w: %s: %s %s", ErrRejected, first.Name, first.Field, first.Reason)
	}
	s.Logger.Info("registered", "tools", len(said.AcceptedTools))
	if s.OnRegistered != nil {
		s.OnRegistered(said)
	}
	return nil
}

func (s *stream) send(message *toolsv1.HostToolsRequest) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	if s.client == nil {
		return errLost
	}
	return s.client.Send(message)
}

func (s *stream) begin(ctx context.Context, asked *toolsv1.HostCall) {
	call := Call{
		ID: asked.CallId, IdempotencyKey: asked.IdempotencyKey,
		ExecutionID: asked.ExecutionId, UserID: asked.UserId,
		Traceparent: asked.Traceparent, Tracestate: asked.Tracestate,
	}
	call.progress = func(done, total float64, message string) {
		told := &toolsv1.HostCallProgress{CallId: call.ID, Progress: done, Total: total, Message: message}
		_ = s.send(&toolsv1.HostToolsRequest{Message: &toolsv1.HostToolsRequest_Progress{Progress: told}})
	}
	making, cancel := context.WithCancelCause(context.WithValue(ctx, callKey{}, call))
	making, late := context.WithTimeout(making, asked.Timeout.AsDuration())
	s.mutex.Lock()
	s.cancels[call.ID] = cancel
	s.mutex.Unlock()
	s.calls.Add(1)
	go func() {
		defer s.calls.Done()
		defer func() {
			late()
			s.cancel(call.ID)
		}()
		result := s.make(making, asked)
		if making.Err() != nil && !errors.Is(making.Err(), context.DeadlineExceeded) {
			return // nobody waits for it
		}
		result.CallId = call.ID
		if err := s.send(&toolsv1.HostToolsRequest{Message: &toolsv1.HostToolsRequest_Result{Result: result}}); err != nil {
			s.Logger.Warn("answer lost", "call_id", call.ID, "tool", asked.Tool)
		}
	}()
}

func (s *stream) cancel(callID string) {
	s.mutex.Lock()
	cancel := s.cancels[callID]
	delete(s.cancels, callID)
	s.mutex.Unlock()
	if cancel != nil {
		cancel(errCancelled)
	}
}

func (s *stream) make(ctx context.Context, asked *toolsv1.HostCall) *toolsv1.HostCallResult {
	select {
	case s.room <- struct{}{}:
		defer func() { <-s.room }()
	case <-ctx.Done():
		return failed(context.Cause(ctx).Error())
	}
	for _, tool := range s.Tools {
		if tool.described.Name == asked.Tool {
			return s.bounded(s.called(ctx, tool, asked.Arguments))
		}
	}
	return failed(fmt.Sprintf("there is no tool %q", asked.Tool))
}

func (s *stream) called(ctx context.Context, tool Tool, arguments *structpb.Struct) (result *toolsv1.HostCallResult) {
	defer func() {
		if panicked := recover(); panicked != nil {
			s.Logger.Error("tool panicked", "tool", tool.described.Name, "panic", panicked)
			result = failed("the tool failed")
		}
	}()
	if arguments == nil {
		arguments = &structpb.Struct{}
	}
	given, err := protojson.Marshal(arguments)
	if err != nil {
		return failed(err.Error())
	}
	made, err := tool.call(ctx, given)
	if err != nil {
		return failed(err.Error())
	}
	return made
}

// bounded keeps a result that is too large from ending the stream, and with it all other calls.
func (s *stream) bounded(result *toolsv1.HostCallResult) *toolsv1.HostCallResult {
	if size := proto.Size(result); s.most > 0 && size+envelope > s.most {
		return failed(fmt.Sprintf("the result has %d bytes, more than the %d of a message", size, s.most))
	}
	return result
}

func failed(why string) *toolsv1.HostCallResult {
	if why == "" {
		why = "the tool failed and does not say why"
	}
	return &toolsv1.HostCallResult{Output: why, IsError: true}
}
