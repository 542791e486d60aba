package main

import (
	"encoding/json"
	"time"

	"github.com/hibiken/asynq"
)

// entry is a periodic task.
type entry struct {
	Spec string `json:"spec"`
	task
}

func schedule(redis asynq.RedisConnOpt, settings []byte) error {
	var chosen struct {
		Entries []entry `json:"entries"`
	}
	if err := json.Unmarshal(settings, &chosen); err != nil {
		return err
	}
	scheduler := asynq.NewScheduler(redis, &asynq.SchedulerOpts{
		HeartbeatInterval: time.Second,
		LogLevel:          asynq.WarnLevel,
		PostEnqueueFunc: func(info *asynq.TaskInfo, err error) {
			if err != nil {
				tell(map[string]any{"event": "refused", "error": err.Error()})
				return
			}
			tell(map[string]any{"event": "enqueued", "id": info.ID, "type": info.Type, "queue": info.Queue})
		},
	})
	var ids []string
	for _, one := range chosen.Entries {
		id, err := scheduler.Register(
			one.Spec, asynq.NewTaskWithHeaders(one.Type, one.Payload, one.Headers), one.options()...)
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	if err := scheduler.Start(); err != nil {
		return err
	}
	tell(map[string]any{"event": "ready", "entries": ids})
	untilInputEnds()
	scheduler.Shutdown()
	return nil
}
