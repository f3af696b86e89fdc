package main

import (
	"context"
	"fmt"
	"io"
	"time"

	executionv1 "github.com/dynamic-agents/dynamic-agents/gen/go/dynamicagents/execution/v1"
	registryv1 "github.com/dynamic-agents/dynamic-agents/gen/go/dynamicagents/registry/v1"
)

// runTeam has a team of one member answer, and prints the tree of who did what.
func (c crm) runTeam() error {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	member := &registryv1.TeamMember{
		Member: &registryv1.TeamMember_AgentId{AgentId: "crm-assistant"}, Role: "Knows the leads.",
	}
	if _, err := c.teams.CreateTeam(ctx, &registryv1.CreateTeamRequest{
		RequestId: "crm-desk",
		Team: &registryv1.Team{TeamId: "crm-desk", Spec: &registryv1.TeamSpec{
			Model: &registryv1.ModelSettings{Model: "offline"}, Members: []*registryv1.TeamMember{member},
		}},
	}); err != nil {
		return err
	}
	stream, err := c.executions.ExecuteStream(ctx, &executionv1.ExecuteRequest{
		Target: &executionv1.ExecuteRequest_TeamId{TeamId: "crm-desk"},
		Input:  "crm-assistant: how many leads are there?",
	})
	if err != nil {
		return err
	}
	seen := newTree()
	for {
		event, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		seen.follow(event)
		if failed := event.GetExecutionFailed(); failed != nil {
			return fmt.Errorf("failed: %s", failed.Error.Message)
		}
	}
	seen.print()
	return nil
}
