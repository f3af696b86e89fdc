// Command crm uses dynamic-agents as a Go backend would: it keeps an agent, streams a run with a deadline, cancels
// another one midway, resumes a stream that it dropped, and reads the details of an error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"strings"
	"time"

	executionv1 "github.com/dynamic-agents/dynamic-agents/gen/go/dynamicagents/execution/v1"
	registryv1 "github.com/dynamic-agents/dynamic-agents/gen/go/dynamicagents/registry/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

type crm struct {
	agents     registryv1.AgentServiceClient
	teams      registryv1.TeamServiceClient
	workflows  registryv1.WorkflowServiceClient
	executions executionv1.ExecutionServiceClient
}

func main() {
	log.SetFlags(0)
	registry := flag.String("registry", "127.0.0.1:50051", "address of Registry")
	execution := flag.String("execution", "127.0.0.1:50054", "address of Execution")
	flag.Parse()

	registryConn, executionConn := dial(*registry), dial(*execution)
	defer registryConn.Close()
	defer executionConn.Close()
	c := crm{
		registryv1.NewAgentServiceClient(registryConn),
		registryv1.NewTeamServiceClient(registryConn),
		registryv1.NewWorkflowServiceClient(registryConn),
		executionv1.NewExecutionServiceClient(executionConn),
	}

	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"create", c.createAgent},
		{"stream", c.streamWithDeadline},
		{"cancel", c.cancelMidway},
		{"resume", c.dropAndResume},
		{"error", c.readErrorDetails},
		{"team", c.runTeam},
		{"workflow", c.runWorkflow},
	} {
		fmt.Printf("== %s\n", step.name)
		if err := step.do(); err != nil {
			log.Fatalf("%s: %v", step.name, err)
		}
	}
	fmt.Println("== done")
}

func dial(address string) *grpc.ClientConn {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	return conn
}

func (c crm) createAgent() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	temperature := 0.2
	reply, err := c.agents.CreateAgent(ctx, &registryv1.CreateAgentRequest{
		RequestId: "crm-setup",
		Agent: &registryv1.Agent{
			AgentId:     "crm-assistant",
			DisplayName: "CRM assistant",
			Spec: &registryv1.AgentSpec{
				Model:        &registryv1.ModelSettings{Model: "offline", Temperature: &temperature},
				Instructions: []string{"Answer questions about our leads."},
				Tools:        []*registryv1.ToolReference{{ToolId: "builtin/calculator"}},
			},
		},
	})
	if err != nil {
		return err
	}
	fmt.Printf("agent %s revision %d\n", reply.Agent.AgentId, reply.Agent.Revision)
	return nil
}

func (c crm) streamWithDeadline() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	stream, err := c.executions.ExecuteStream(ctx, request("What is 17 * 23?"))
	if err != nil {
		return err
	}
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Printf("%d %s\n", event.Sequence, describe(event))
	}
}

// cancelMidway cancels a run when its first words have come, and reads on to the terminal event.
func (c crm) cancelMidway() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	stream, err := c.executions.ExecuteStream(ctx, request(strings.Repeat("Tell me everything. ", 20)))
	if err != nil {
		return err
	}
	asked := false
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if event.GetContentDelta() != nil && !asked {
			asked = true
			reply, err := c.executions.CancelExecution(ctx, &executionv1.CancelExecutionRequest{
				ExecutionId: event.ExecutionId, Reason: "the lead hung up",
			})
			if err != nil {
				return err
			}
			fmt.Println("status", reply.Execution.Status)
		}
		if event.GetContentDelta() == nil {
			fmt.Println(describe(event))
		}
	}
}

// dropAndResume leaves a stream after its first words and reads the rest of the run with WatchExecution.
func (c crm) dropAndResume() error {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	dropped, drop := context.WithCancel(ctx)
	defer drop()
	stream, err := c.executions.ExecuteStream(dropped, request("Count the leads of this week."))
	if err != nil {
		return err
	}
	var executionID, text string
	var last int64
	for text == "" {
		event, err := stream.Recv()
		if err != nil {
			return err
		}
		executionID, last = event.ExecutionId, event.Sequence
		text += event.GetContentDelta().GetText()
	}
	drop()

	watch, err := c.executions.WatchExecution(ctx, &executionv1.WatchExecutionRequest{
		ExecutionId: executionID, AfterSequence: last,
	})
	if err != nil {
		return err
	}
	for {
		reply, err := watch.Recv()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("the stream ended without a terminal event")
		}
		if err != nil {
			return err
		}
		event := reply.Event
		if event.GetHeartbeat() != nil {
			continue
		}
		if event.Sequence != last+1 {
			return fmt.Errorf("event %d follows %d", event.Sequence, last)
		}
		last = event.Sequence
		text += event.GetContentDelta().GetText()
		if completed := event.GetExecutionCompleted(); completed != nil {
			fmt.Println("whole", completed.Output == text)
			return nil
		}
	}
}

func (c crm) readErrorDetails() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	unknown := request("hello")
	unknown.Target = &executionv1.ExecuteRequest_AgentId{AgentId: "nobody"}
	_, err := c.executions.Execute(ctx, unknown)
	if status.Code(err) != codes.NotFound {
		return fmt.Errorf("expected NOT_FOUND, got %v", err)
	}
	printDetails(err)
	_, err = c.executions.Execute(ctx, request(""))
	if status.Code(err) != codes.InvalidArgument {
		return fmt.Errorf("expected INVALID_ARGUMENT, got %v", err)
	}
	printDetails(err)
	return nil
}

func printDetails(err error) {
	for _, detail := range status.Convert(err).Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			fmt.Println(status.Code(err), d.Domain, d.Reason)
		case *errdetails.ResourceInfo:
			fmt.Println("resource", d.ResourceType, d.ResourceName)
		case *errdetails.BadRequest:
			for _, violation := range d.FieldViolations {
				fmt.Println("field", violation.Field)
			}
		}
	}
}

func request(input string) *executionv1.ExecuteRequest {
	return &executionv1.ExecuteRequest{
		Target: &executionv1.ExecuteRequest_AgentId{AgentId: "crm-assistant"},
		Input:  input,
	}
}

func describe(event *executionv1.ExecuteEvent) string {
	switch e := event.Event.(type) {
	case *executionv1.ExecuteEvent_ExecutionStarted:
		return fmt.Sprintf("started %s@%d", e.ExecutionStarted.AgentId, e.ExecutionStarted.Revision)
	case *executionv1.ExecuteEvent_ContentDelta:
		return fmt.Sprintf("text %q", e.ContentDelta.Text)
	case *executionv1.ExecuteEvent_ToolCallStarted:
		return fmt.Sprintf("tool %s %s", e.ToolCallStarted.ToolId, e.ToolCallStarted.Arguments)
	case *executionv1.ExecuteEvent_ToolCallCompleted:
		return fmt.Sprintf("tool answered %s", e.ToolCallCompleted.Output)
	case *executionv1.ExecuteEvent_UsageReported:
		return fmt.Sprintf("usage %s offline=%v", e.UsageReported.Model, e.UsageReported.Offline)
	case *executionv1.ExecuteEvent_ExecutionCompleted:
		return fmt.Sprintf("completed %q", e.ExecutionCompleted.Output)
	case *executionv1.ExecuteEvent_ExecutionFailed:
		return fmt.Sprintf("failed %s", codes.Code(e.ExecutionFailed.Error.Code))
	case *executionv1.ExecuteEvent_ExecutionCancelled:
		return fmt.Sprintf("cancelled %s", e.ExecutionCancelled.Reason)
	default:
		return fmt.Sprintf("%T", e)
	}
}
