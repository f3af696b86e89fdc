package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	executionv1 "github.com/dynamic-agents/dynamic-agents/gen/go/dynamicagents/execution/v1"
	registryv1 "github.com/dynamic-agents/dynamic-agents/gen/go/dynamicagents/registry/v1"
	"google.golang.org/protobuf/types/known/structpb"
)

// tree is the members and steps of a run, known from the sources of its events alone.
type tree struct {
	order  []string
	depth  map[string]int
	name   map[string]string
	status map[string]string
}

func newTree() *tree {
	return &tree{depth: map[string]int{}, name: map[string]string{}, status: map[string]string{}}
}

func (t *tree) follow(event *executionv1.ExecuteEvent) {
	source := event.Source
	if source == nil || len(source.Path) == 0 {
		return
	}
	scope := source.Scope
	if _, known := t.depth[scope]; !known {
		t.order = append(t.order, scope)
		t.depth[scope], t.name[scope] = int(source.Depth), source.Path[len(source.Path)-1]
		t.status[scope] = "running"
	}
	switch e := event.Event.(type) {
	case *executionv1.ExecuteEvent_StepCompleted:
		t.status[scope] = strings.ToLower(strings.TrimPrefix(e.StepCompleted.Outcome.String(), "STEP_OUTCOME_"))
	case *executionv1.ExecuteEvent_MemberCompleted:
		t.status[scope] = "completed"
	case *executionv1.ExecuteEvent_ExecutionCompleted:
		t.status[scope] = "completed"
	}
}

func (t *tree) print() {
	for _, scope := range t.order {
		fmt.Printf("%s%s %s\n", strings.Repeat("  ", t.depth[scope]), t.name[scope], t.status[scope])
	}
}

// runWorkflow runs a workflow up to its question, drops the stream, reconnects, answers on the same channel, sends the
// signal that it waits for, and prints the tree of what happened.
func (c crm) runWorkflow() error {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if err := c.createWorkflow(ctx); err != nil {
		return err
	}
	seen := newTree()
	id, last, asked, err := c.untilAsked(ctx, seen)
	if err != nil {
		return err
	}
	watch, err := c.executions.WatchExecution(ctx, &executionv1.WatchExecutionRequest{ExecutionId: id, AfterSequence: last})
	if err != nil {
		return err
	}
	approved := &executionv1.InputAnswer_Approval{Approval: &executionv1.ToolDecision{Approved: true}}
	answers := []*executionv1.InputAnswer{{InputId: asked.Requests[0].InputId, Answer: approved}}
	if _, err := c.executions.ContinueExecution(ctx, &executionv1.ContinueExecutionRequest{
		ExecutionId: id, Answers: answers, RequestId: "crm-yes",
	}); err != nil {
		return err
	}
	fmt.Printf("asked %s\n", asked.Requests[0].GetStepApproval().GetQuestion())
	for {
		reply, err := watch.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		seen.follow(reply.Event)
		if wait := reply.Event.GetWaitStarted(); wait.GetSignal() != "" {
			payload, err := structpb.NewValue(map[string]any{"by": "truck"})
			if err != nil {
				return err
			}
			if _, err := c.executions.SignalExecution(ctx, &executionv1.SignalExecutionRequest{
				ExecutionId: id, Name: wait.Signal, Payload: payload, RequestId: "crm-delivered",
			}); err != nil {
				return err
			}
		}
		if done := reply.Event.GetExecutionCompleted(); done != nil {
			fmt.Printf("output %s\n", done.Output)
		}
	}
	seen.print()
	return nil
}

func (c crm) createWorkflow(ctx context.Context) error {
	step := func(id string) *registryv1.WorkflowStep {
		return &registryv1.WorkflowStep{
			StepId: id,
			Step:   &registryv1.WorkflowStep_Agent{Agent: &registryv1.AgentStep{AgentId: "crm-assistant"}},
		}
	}
	ask := &registryv1.WorkflowStep{
		StepId: "ok", Step: &registryv1.WorkflowStep_Approval{Approval: &registryv1.ApprovalStep{Question: "'Send it?'"}},
	}
	wait := &registryv1.WorkflowStep{
		StepId: "delivery", Step: &registryv1.WorkflowStep_Wait{
			Wait: &registryv1.WaitStep{Until: &registryv1.WaitStep_Signal{Signal: "delivered"}},
		},
	}
	both := &registryv1.WorkflowStep{
		StepId: "both", Step: &registryv1.WorkflowStep_Parallel{Parallel: &registryv1.ParallelStep{
			MaxConcurrency: 1,
			Branches:       []*registryv1.StepList{{Steps: []*registryv1.WorkflowStep{step("left")}}, {Steps: []*registryv1.WorkflowStep{step("right")}}},
		}},
	}
	_, err := c.workflows.CreateWorkflow(ctx, &registryv1.CreateWorkflowRequest{
		RequestId: "crm-flow",
		Workflow: &registryv1.Workflow{WorkflowId: "crm-flow", Spec: &registryv1.WorkflowSpec{
			Steps:  []*registryv1.WorkflowStep{both, ask, wait},
			Output: `"delivered by " + string(steps.delivery.by)`,
		}},
	})
	return err
}

// untilAsked reads a run's events until it asks, and then drops the stream.
func (c crm) untilAsked(ctx context.Context, seen *tree) (string, int64, *executionv1.InputRequired, error) {
	streaming, drop := context.WithCancel(ctx)
	defer drop()
	stream, err := c.executions.ExecuteStream(streaming, &executionv1.ExecuteRequest{
		Target:       &executionv1.ExecuteRequest_WorkflowId{WorkflowId: "crm-flow"},
		Input:        "an offer",
		OnDisconnect: executionv1.OnDisconnect_ON_DISCONNECT_CONTINUE,
	})
	if err != nil {
		return "", 0, nil, err
	}
	for {
		event, err := stream.Recv()
		if err != nil {
			return "", 0, nil, err
		}
		seen.follow(event)
		if asked := event.GetInputRequired(); asked != nil {
			return event.ExecutionId, event.Sequence, asked, nil
		}
	}
}
