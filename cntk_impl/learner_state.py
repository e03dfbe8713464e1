def learner_state(learner):
    return 0, {}
